"""ONNX files: what they say about themselves, what they hold, and what they compute."""

from __future__ import annotations

import json
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, numpy_helper

from allfocus.export import to_onnx
from allfocus.runtime.backend import Options
from allfocus.runtime.catalogue import entry
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import CANARY_KEY, GRAPH_KEY, SPEC_KEY, Graph, Shapes, Size, Spec
from allfocus.train.checkpoint import random
from allfocus.train.models.count import count_macs, count_parameters

if TYPE_CHECKING:
    from conftest import Exported

STATIC = Graph(io="frame", precision="fp16", color="bgr", shapes=Shapes.static(Size(64, 48)))


@pytest.fixture(scope="module")
def static() -> ModelProto:
    net, spec = random("didanet-tiny", 1)
    return to_onnx.export(net.eval(), spec, STATIC)


def shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_value or d.dim_param for d in value.type.tensor_type.shape.dim]


def kind(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def test_the_metadata_tells_model_and_graph(static: ModelProto) -> None:
    net, spec = random("didanet-tiny", 1)
    said = {p.key: p.value for p in static.metadata_props}
    assert Spec.from_json(said[SPEC_KEY]) == spec
    assert Graph.from_json(said[GRAPH_KEY]) == STATIC
    assert set(said) == {SPEC_KEY, GRAPH_KEY, CANARY_KEY}
    read = Spec.from_json(said[SPEC_KEY])
    assert read.parameters == count_parameters(net)
    assert read.macs_per_pixel * 64 * 48 == count_macs(net, torch.zeros(1, 3, 48, 64))


def test_a_net_with_functions_is_written_in_bfloat16_too(tmp_path: Path) -> None:
    """Whose opset is that of the graph, or ONNX refuses it."""
    net, spec = random("jdrl-reblur-tiny", 1)
    signature = entry("jdrl-reblur-tiny").signature("whole")
    graph = replace(STATIC, precision="bf16", signature=signature)
    model = to_onnx.export(net.eval(), spec, graph)
    assert model.functions
    to_onnx.write(model, tmp_path / "x.onnx")


def test_inputs_and_outputs_of_one_size(static: ModelProto) -> None:
    (image,), (sharp, defocus) = static.graph.input, static.graph.output
    assert (image.name, sharp.name, defocus.name) == ("image", "sharp", "defocus")
    assert shape(image) == shape(sharp) == [1, 48, 64, 3]
    assert shape(defocus) == [1, 48, 64]
    assert kind(image) == kind(sharp) == TensorProto.UINT8
    assert kind(defocus) == TensorProto.FLOAT


def test_inputs_and_outputs_of_any_size(tiny: Exported) -> None:
    frame, planes = onnx.load(str(tiny.frame)).graph, onnx.load(str(tiny.float)).graph
    assert [shape(v) for v in (*frame.input, *frame.output)] == [
        [1, "4*h", "4*w", 3],
        [1, "4*h", "4*w", 3],
        [1, "4*h", "4*w"],
    ]
    assert [shape(v) for v in (*planes.input, *planes.output)] == [
        [1, 3, "4*h", "4*w"],
        [1, 3, "4*h", "4*w"],
        [1, 1, "4*h", "4*w"],
    ]


def test_bytes_are_cast_first_and_last(static: ModelProto) -> None:
    nodes = static.graph.node
    assert [n.op_type for n in nodes if "image" in n.input] == ["Cast"]
    assert [n.op_type for n in nodes if "sharp" in n.output] == ["Cast"]


def test_half_precision_is_in_the_graph(static: ModelProto) -> None:
    types = {t.name: t.data_type for t in static.graph.initializer}
    convs = [n for n in static.graph.node if n.op_type == "Conv"]
    assert len(convs) == 13
    assert {types[name] for n in convs for name in n.input[1:]} == {TensorProto.FLOAT16}


def test_weights_keep_the_checkpoints_names_and_values(tiny: Exported) -> None:
    tensors = {t.name: t for t in onnx.load(str(tiny.float)).graph.initializer}
    for name, value in tiny.net.state_dict().items():
        np.testing.assert_array_equal(numpy_helper.to_array(tensors[name]), value.numpy())


def test_only_standard_operators_and_no_traces(static: ModelProto) -> None:
    assert {n.domain for n in static.graph.node} == {""}
    assert not static.functions
    content = static.SerializeToString()
    here = (str(Path(__file__).parent.parent), sysconfig.get_path("purelib"), sys.prefix)
    for trace in (*here, 'File "', "site-packages", ".py", "torch.nn", "aten"):
        assert trace.encode() not in content, trace


def test_the_same_export_gives_the_same_bytes(static: ModelProto, tmp_path: Path) -> None:
    net, spec = random("didanet-tiny", 1)
    for name, model in (("a", static), ("b", to_onnx.export(net.eval(), spec, STATIC))):
        to_onnx.write(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@settings(max_examples=12)
@given(width=st.integers(1, 20), height=st.integers(1, 20))
def test_any_size_computes_what_the_net_does(tiny: Exported, width: int, height: int) -> None:
    image = np.random.default_rng(0).random((1, 3, 4 * height, 4 * width), dtype=np.float32)
    with torch.inference_mode():
        sharp, defocus = tiny.net(torch.from_numpy(image))
    with OrtBackend(tiny.float, Options(threads=1)) as backend:
        found = backend.infer(image)
    np.testing.assert_allclose(found.sharp, sharp.numpy(), atol=1e-5)
    np.testing.assert_allclose(found.defocus, defocus.relu().numpy(), atol=1e-5)


def test_the_command_writes_a_checked_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "tiny.onnx"
    arguments = ["--weights", "random:1", "--size", "30x21", "--json", "--out", str(out)]
    assert to_onnx.main(["--model", "didanet-tiny", *arguments]) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert "--size 30x21: rounded up to 32x24" in told.err
    assert report["bytes"] == out.stat().st_size
    assert report["parity"]["max_abs"] <= 1e-4
    assert shape(onnx.load(str(out)).graph.input[0]) == [1, 3, 24, 32]
    assert [p.name for p in out.parent.iterdir()] == ["tiny.onnx"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "didanet-tin"], "did you mean 'didanet-tiny'"),
        (["--model", "didanet-tiny", "--color", "bgr"], "RGB only"),
        (["--model", "didanet-tiny", "--size", "x"], "expected WIDTHxHEIGHT"),
        (["--model", "didanet-tiny", "--out", "x.engine"], "expected the name of an ONNX file"),
    ],
)
def test_the_command_refuses_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    out = tmp_path / "tiny.onnx"
    assert to_onnx.main(["--weights", "random:1", "--out", str(out), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()
