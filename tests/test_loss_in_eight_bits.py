"""What 8 bits lose is judged as where they do not overflow, on whatever CPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from allfocus.export import quality
from allfocus.export.quality import run_ort
from allfocus.runtime.abilities import lacks

_INPUTS = 27  # values that a 3x3 convolution of three channels adds up


def convolution() -> onnx.ModelProto:
    """All codes at their largest: pairs of products are twice what 16 bits hold."""
    values = {
        "scale": np.float32(1 / 255),
        "zero": np.uint8(0),
        "codes": np.full((3, 3, 3, 3), 127, np.int8),
        "weight_scale": np.float32(1 / 127),
        "weight_zero": np.int8(0),
        "sum_scale": np.float32(_INPUTS / 255),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["levels"]),
        helper.make_node("DequantizeLinear", ["levels", "scale", "zero"], ["seen"]),
        helper.make_node("DequantizeLinear", ["codes", "weight_scale", "weight_zero"], ["weight"]),
        helper.make_node("Conv", ["seen", "weight"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "sum_scale", "zero"], ["sums"]),
        helper.make_node("DequantizeLinear", ["sums", "sum_scale", "zero"], ["sharp"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("sharp", TensorProto.FLOAT, [1, 3, 6, 6])],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("has_vnni", [pytest.param(not lacks("int8"), id="this CPU"), False])
def test_sums_do_not_overflow(monkeypatch: pytest.MonkeyPatch, *, has_vnni: bool) -> None:
    monkeypatch.setattr(quality, "lacks", lambda _: not has_vnni)
    found = run_ort(convolution(), as_meant=True)(np.ones((1, 3, 8, 8), np.float32))
    np.testing.assert_allclose(found, _INPUTS, rtol=1e-5)


@pytest.mark.skipif(not lacks("int8"), reason="this CPU adds up 8 bits without overflow")
def test_where_they_do_it_would_have_been_seen() -> None:
    found = run_ort(convolution())(np.ones((1, 3, 8, 8), np.float32))
    assert found.max() < 0.9 * _INPUTS
