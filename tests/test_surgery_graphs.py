"""Graph surgery on graphs made by hand: what is rewritten, to the bit, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from allfocus.export.surgery import operate

Values = NDArray[Any]
BLOCKS = "com.microsoft.nchwc"  # the domain of ONNX Runtime's operators on blocks of channels


def model_of(
    nodes: Sequence[NodeProto], channels: int, size: tuple[int, int], **constants: Values
) -> ModelProto:
    """`x` [1, channels, *size] -> `y`."""
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, *size]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4),
    ]
    held = [numpy_helper.from_array(v, k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def whole_numbers(*shape: int) -> Values:
    """Of which float32 sums are exact in any order."""
    return np.random.default_rng(sum(shape)).integers(-8, 9, shape).astype(np.float32)


def unshuffled(
    channels: int = 2,
    fold: int = 2,
    kernel: int = 3,
    size: tuple[int, int] = (3, 4),
    more: Sequence[NodeProto] = (),
    order: Sequence[int] = (0, 1, 3, 5, 2, 4),
    groups: int = 1,
    **conv: Any,
) -> ModelProto:
    """A pixel-unshuffle to `size`, a convolution, and what comes with it."""
    height, width = size
    inputs = channels * fold**2
    nodes = [
        helper.make_node("Reshape", ["x", "apart"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=list(order)),
        helper.make_node("Reshape", ["b", "together"], ["u"]),
        helper.make_node("Conv", ["u", "w", "bias"], ["y"], group=groups, **conv),
        *more,
    ]
    return model_of(
        nodes,
        channels,
        (fold * height, fold * width),
        apart=np.array([1, channels, height, fold, width, fold]),
        together=np.array([1, inputs, height, width]),
        w=whole_numbers(4, inputs // groups, kernel, kernel),
        bias=whole_numbers(4),
    )


def upsampled(
    channels: int = 1,
    scales: Sequence[float] = (1, 1, 4, 4),
    size: tuple[int, int] = (3, 5),
    mode: str = "linear",
    coordinates: str = "half_pixel",
) -> ModelProto:
    """A convolution to `channels`, upsampled."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node(
            "Resize", ["a", "", "s"], ["y"], mode=mode, coordinate_transformation_mode=coordinates
        ),
    ]
    constants = {"w": whole_numbers(channels, 16, 3, 3), "s": np.array(scales, np.float32)}
    return model_of(nodes, 16, size, **constants)


def run(model: ModelProto, kept: str = "") -> Values:
    """What it makes of whole numbers; `kept`: where to write the graph as ONNX Runtime runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if kept:
        options.optimized_model_filepath = kept
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    x = whole_numbers(*(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim))
    result: Values = session.run(["y"], {"x": x})[0]
    return result


def operated(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    assert operate(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def kinds(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@settings(max_examples=20)
@given(
    channels=st.integers(1, 5),
    fold=st.integers(2, 4),
    kernel=st.integers(1, 3),
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_an_unshuffle_goes_to_the_bit(
    channels: int,
    fold: int,
    kernel: int,
    size: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> None:
    model = unshuffled(channels, fold, kernel, size, strides=strides, pads=pads)
    found = operated(model)
    assert kinds(found) == ["Conv"]
    assert {t.name for t in found.graph.initializer} == {"w", "bias"}
    np.testing.assert_array_equal(run(found), run(model))


def test_a_convolution_that_says_nothing_of_itself_is_understood() -> None:
    model = unshuffled()
    assert not [a for n in model.graph.node if n.op_type == "Conv" for a in n.attribute if a.ints]
    np.testing.assert_array_equal(run(operated(model)), run(model))


def test_two_convolutions_after_one_unshuffle() -> None:
    second = [
        helper.make_node("Conv", ["u", "w2"], ["z"], pads=[1] * 4),
        helper.make_node("ReduceMax", ["z"], ["y"]),
    ]
    model = unshuffled(more=second)
    model.graph.node[3].output[0] = "first"
    model.graph.initializer.append(numpy_helper.from_array(whole_numbers(3, 8, 3, 3), "w2"))
    before = run(model)
    found = operated(model)
    assert "Transpose" not in kinds(found)
    np.testing.assert_array_equal(run(found), before)


def scaled(
    factor: Values, more: Sequence[NodeProto] = (), swapped: bool = False, kind: type = np.float32
) -> ModelProto:
    """A residual block's end: `x + factor * conv(x)`."""
    product = ["factor", "c"] if swapped else ["c", "factor"]
    nodes = [
        helper.make_node("Conv", ["x", "w", "bias"], ["c"], pads=[1] * 4),
        helper.make_node("Mul", product, ["p"]),
        helper.make_node("Add", ["x", "p"], ["y"]),
        *more,
    ]
    held = {"w": whole_numbers(4, 4, 3, 3), "bias": whole_numbers(4), "factor": factor}
    model = model_of(nodes, 4, (5, 6), **{k: v.astype(kind) for k, v in held.items()})
    if kind is np.float16:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1)])
def test_a_residual_scale_goes_to_the_bit(shape: tuple[int, ...], swapped: bool) -> None:
    model = scaled(np.full(shape, -0.25, np.float32), swapped=swapped)
    found = operated(model)
    assert kinds(found) == ["Conv", "Add"]
    assert {t.name for t in found.graph.initializer} == {"w", "bias"}
    np.testing.assert_array_equal(run(found), run(model))


def test_a_scale_that_is_not_exact_is_rounded_once() -> None:
    model = scaled(np.array(0.1, np.float32))
    np.testing.assert_allclose(run(operated(model)), run(model), rtol=1e-6, atol=1e-4)


def _outside(model: ModelProto) -> ModelProto:
    """Its weights in a file, as those of packaged graphs."""
    (weight,) = (t for t in model.graph.initializer if t.name == "w")
    weight.data_location = TensorProto.EXTERNAL
    return model


def _as_output(model: ModelProto) -> ModelProto:
    model.graph.output.append(helper.make_tensor_value_info("u", TensorProto.FLOAT, None))
    return model


def _shared() -> ModelProto:
    again = helper.make_node("ReduceSum", ["w"], ["s"])
    return unshuffled(more=[again, helper.make_node("Identity", ["s"], ["t"])])


LEFT: dict[str, Callable[[], ModelProto]] = {
    "another reader": lambda: unshuffled(more=[helper.make_node("Relu", ["u"], ["r"])]),
    "an output": lambda: _as_output(unshuffled()),
    "shared weights": _shared,
    "weights in a file": lambda: _outside(unshuffled()),
    "groups": lambda: unshuffled(groups=2),
    "dilation": lambda: unshuffled(dilations=[2, 2], pads=[2] * 4),
    "padding by name": lambda: unshuffled(auto_pad="SAME_UPPER"),
    "another order": lambda: unshuffled(order=(0, 3, 5, 1, 2, 4)),
    "a scale for each channel": lambda: scaled(np.ones((1, 4, 1, 1), np.float32)),
    "no number": lambda: scaled(np.array(np.nan, np.float32)),
    "half precision": lambda: scaled(np.array(0.1), kind=np.float16),
    "read before it is scaled": lambda: scaled(
        np.array(0.1, np.float32), [helper.make_node("Relu", ["c"], ["r"])]
    ),
    "weights read elsewhere": lambda: scaled(
        np.array(0.1, np.float32), [helper.make_node("Relu", ["w"], ["r"])]
    ),
    "scaled weights in a file": lambda: _outside(scaled(np.array(0.1, np.float32))),
    "more channels than one": lambda: upsampled(channels=2),
    "nearest": lambda: upsampled(mode="nearest"),
    "other coordinates": lambda: upsampled(coordinates="align_corners"),
    "shrunk": lambda: upsampled(scales=(1, 1, 0.5, 0.5)),
    "hardly grown": lambda: upsampled(scales=(1, 1, 1.5, 2)),
}


@pytest.mark.parametrize("case", LEFT)
def test_what_does_not_fit_is_left_to_the_byte(case: str) -> None:
    model = LEFT[case]()
    content = model.SerializeToString(deterministic=True)
    assert operate(model) == []
    assert model.SerializeToString(deterministic=True) == content


@settings(max_examples=10)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    scales=st.tuples(st.sampled_from([2.0, 2.5, 4.0]), st.sampled_from([2.0, 3.0, 4.0])),
)
def test_a_plane_is_upsampled_as_before(size: tuple[int, int], scales: tuple[float, float]) -> None:
    model = upsampled(size=size, scales=(1, 1, *scales))
    found = operated(model)
    np.testing.assert_allclose(run(found), run(model), rtol=1e-6, atol=1e-6 * 4000)


def test_a_plane_is_not_padded_to_a_block(tmp_path: Path) -> None:
    """What ONNX Runtime runs, and the reason for it: without a gain there would be no surgery."""
    made = []
    for name, model in (("was", upsampled()), ("is", operated(upsampled()))):
        run(model, str(tmp_path / name))
        nodes = onnx.load(str(tmp_path / name)).graph.node
        made.append([n.op_type for n in nodes if n.domain == BLOCKS])
    if "Upsample" not in made[0]:
        pytest.skip("ONNX Runtime keeps no blocks of channels on this processor")
    assert "Upsample" not in made[1]
