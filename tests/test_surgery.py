"""Graph surgery on the nets as they are exported: the same results, and fewer operators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tiny_graphs import graph_of

from allfocus.export import surgery, to_onnx
from allfocus.export.builder import build_engine
from allfocus.export.flavour import RTX_TARGETS, Target
from allfocus.export.surgery import operate
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Io, Precision, Shapes, Size
from allfocus.train.checkpoint import describe
from allfocus.train.models import build
from allfocus.train.models.base import Net

SMALL = {
    "didanet-lite": {"map_features": 3, "map_blocks": 1, "features": 4, "blocks": 1},
    "didanet-released": {"map_features": 3, "map_blocks": 1, "features": 4, "blocks": 6},
    "sftnet-lite": {"map_features": 3, "map_blocks": 1, "features": 4, "blocks": 1},
}
SIZES = [(1, 1), (1, 3), (3, 2)]  # height and width in multiples; what is at the border counts most
ARITHMETIC = {"Shape", "Div", "Transpose"}  # with Reshape and Concat, what an unshuffle is made of


def small(name: str) -> Net:
    """A net of that design whose widths and depths a test can afford, with random weights."""
    net = build(name, SMALL[name])
    net.draw(torch.Generator().manual_seed(0))
    return net.eval()


def before(
    name: str, io: Io = "float", precision: Precision = "fp32", shapes: Shapes | None = None
) -> ModelProto:
    """The graph of a small net as it is without surgery."""
    net = small(name)
    spec = describe(name, net, version=1, weights="-", weights_sha256="0" * 64, license="-")
    graph = graph_of(name, "whole", io, precision, shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surgery, "operate", lambda *_, **__: [])
        return to_onnx.export(net, spec, graph)


@pytest.fixture(scope="module")
def lite() -> ModelProto:
    """Of any size, float32, float face."""
    return before("didanet-lite")


def after(model: ModelProto) -> tuple[ModelProto, list[str]]:
    copy = ModelProto()
    copy.CopyFrom(model)
    done = operate(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy, done


def run(model: ModelProto, given: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    outputs: list[Any] = session.run(None, given)
    return outputs


def content(model: ModelProto, height: int, width: int) -> dict[str, Any]:
    """Noise between -1 and 2 for every input, with an edge through it."""
    random = np.random.default_rng(height * width)
    given = {}
    for each in model.graph.input:
        channels = each.type.tensor_type.shape.dim[1].dim_value
        places = (1, 1) if KINDS[each.name] == "vector" else (height, width)
        values = random.uniform(-1, 2, (1, channels, *places)).astype(np.float32)
        values[..., places[1] // 3 :] += 1
        given[each.name] = values
    return given


def kinds(model: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def same(model: ModelProto, operated: ModelProto) -> None:
    """Both compute the same to 1e-6, also where they are all border."""
    for rows, columns in SIZES:
        given = content(model, 16 * rows, 16 * columns)
        found = list(zip(run(model, given), run(operated, given), strict=True))
        assert found[0][0].std() > 0.1
        for was, is_now in found:
            scale = max(1.0, float(np.abs(was).max()))
            np.testing.assert_allclose(is_now, was, rtol=0, atol=1e-6 * scale)


def test_a_net_computes_what_it_did_with_fewer_operators(lite: ModelProto) -> None:
    operated, done = after(lite)
    assert [line.partition(":")[0] for line in done][:1] == ["restorer.head.weight"]
    assert len(done) == 2
    gone = kinds(lite) - kinds(operated)
    assert gone == {"Shape": 5, "Reshape": 4, "Concat": 4, "Div": 2, "Transpose": 1, "Mul": 1}
    assert not kinds(operated) - kinds(lite)
    same(lite, operated)


def test_of_another_net_the_same() -> None:
    """Whose image alone is unshuffled, and whose nodes call functions."""
    model = before("sftnet-lite")
    operated, done = after(model)
    assert len(done) == 2
    assert set(kinds(model) - kinds(operated)) >= ARITHMETIC
    assert model.functions
    assert operated.functions == model.functions
    same(model, operated)


def test_residual_scales_go() -> None:
    model = before("didanet-released")
    operated, done = after(model)
    assert len(done) == 2  # of its six blocks, those from the fifth on are scaled
    assert kinds(model) - kinds(operated) == {"Mul": 2}
    same(model, operated)


def test_inputs_outputs_metadata_and_names_of_weights_stay(lite: ModelProto) -> None:
    operated, _ = after(lite)
    for field in ("input", "output"):
        assert getattr(operated.graph, field) == getattr(lite.graph, field)
    assert operated.metadata_props == lite.metadata_props
    named = [{t.name for t in m.graph.initializer if "." in t.name} for m in (lite, operated)]
    assert named[0] == named[1] == set(small("didanet-lite").state_dict())


def test_a_second_time_there_is_nothing_to_do(lite: ModelProto) -> None:
    operated, done = after(lite)
    content = operated.SerializeToString(deterministic=True)
    assert done
    assert operate(operated) == []
    assert operated.SerializeToString(deterministic=True) == content


def test_a_graph_without_any_of_it_is_left_to_the_byte() -> None:
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    content = model.SerializeToString(deterministic=True)
    assert operate(model) == []
    assert model.SerializeToString(deterministic=True) == content


@pytest.mark.rtx
@pytest.mark.parametrize(
    "shapes",
    [Shapes.static(Size(64, 48)), Shapes(Size(32, 32), Size(64, 48), Size(128, 96))],
    ids=["static", "range"],
)
def test_frames_in_half_precision_become_an_engine(tmp_path: Path, shapes: Shapes) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    model = before("didanet-lite", "frame", "fp16", shapes)
    operated, done = after(model)
    assert len(done) == 2
    was, is_now = (head(each) for each in (model, operated))
    assert was.dtype == is_now.dtype == np.float16
    assert (was.shape, is_now.shape) == ((4, 16, 3, 3), (4, 4, 6, 6))
    np.testing.assert_array_equal(np.sort(was, axis=None), np.sort(is_now, axis=None))
    to_onnx.write(operated, tmp_path / "x.onnx")
    graph = graph_of("didanet-lite", "whole", "frame", "fp16", shapes)
    target = Target(flavour="tensorrt-rtx", version="", targets=tuple(RTX_TARGETS), gpu="")
    assert build_engine(tmp_path / "x.onnx", graph, target).data


def head(model: ModelProto) -> Any:
    (tensor,) = (t for t in model.graph.initializer if t.name == "restorer.head.weight")
    return numpy_helper.to_array(tensor)
