"""Graphs in 8 bits: what has Q/DQ nodes around it in each dialect, and what that computes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from quantised import TINY, net_and_spec, picture, psnr, ranges, sharp, traced

from allfocus.export import to_onnx
from allfocus.export.eight_bits import EightBits
from allfocus.export.packaged import graph_of
from allfocus.export.quant_layers import find_layers
from allfocus.export.quantize import DIALECTS, Dialect, added, never_in_8_bits, quantize
from allfocus.export.ranges import Around
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.spec import Io, Shapes, Size
from allfocus.train import checkpoint


def made(dialect: Dialect, *kept: str, inline: bool = True) -> onnx.ModelProto:
    model, spec = traced()
    return quantize(model, spec, ranges(), dialect, kept, inline=inline)


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_layers_are_called_as_in_the_net() -> None:
    model, _ = traced()
    net, _ = net_and_spec()
    convolutions = [
        name.removesuffix(".weight") for name, p in net.named_parameters() if p.ndim > 1
    ]
    assert {layer.name for layer in find_layers(model)} == set(convolutions)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_pictures_stay_what_they_were(dialect: Dialect) -> None:
    model, _ = traced()
    reduced = made(dialect)
    onnx.checker.check_model(reduced, full_check=True)
    image = picture()
    assert psnr(sharp(reduced, image), sharp(model, image)) > (25 if dialect == "fp8" else 40)
    assert psnr(sharp(reduced, image), sharp(model, image)) < 110  # something is rounded


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_convolution_reads_rounded_tensors_and_weights(dialect: Dialect) -> None:
    reduced = made(dialect)
    producers = {name: node for node in reduced.graph.node for name in node.output}
    first = {"estimator.head.0.weight", "restorer.head.weight"}  # read the picture
    for node in reduced.graph.node:
        if node.op_type == "Conv":
            if dialect in ("trt", "fp8") and node.input[1] in first:
                continue  # in half precision: symmetric codes have half of its levels
            assert node.input[1] not in first
            assert producers[node.input[0]].op_type == "DequantizeLinear"
            assert producers[node.input[1]].op_type == "DequantizeLinear"
            assert (node.input[2] in producers) == (dialect == "ort")


def test_the_dialects_differ_as_their_engines_want() -> None:
    layers = len(find_layers(traced()[0]))
    codes = {d: values(made(d)) for d in ("ort", "openvino", "trt")}
    zero_points = {
        d: [v for n, v in found.items() if n.endswith(".zero")] for d, found in codes.items()
    }
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zero_points["trt"])
    assert any(zero.any() for zero in zero_points["openvino"] if zero.dtype == np.uint8)
    assert (
        sum(v.dtype == np.int32 and n.endswith(".codes") for n, v in codes["ort"].items()) == layers
    )
    assert not any(v.dtype == np.int32 for n, v in codes["trt"].items() if added(n))
    rounded = {d: kinds(made(d))["QuantizeLinear"] for d in ("ort", "openvino", "trt")}
    assert rounded["ort"] > rounded["openvino"] == rounded["trt"] + 2  # two read the picture


def test_fp8_has_its_own_type() -> None:
    reduced = made("fp8")
    zeros = [t for t in reduced.graph.initializer if t.name.endswith(".zero")]
    assert {t.data_type for t in zeros} == {TensorProto.FLOAT8E4M3FN}


def test_the_picture_that_goes_in_is_held_exactly() -> None:
    found = values(made("openvino"))
    assert found["image.scale"] == pytest.approx(1 / 255)
    assert found["image.zero"] == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_layers_that_a_dialect_leaves_in_floats_are_told(dialect: Dialect) -> None:
    """It is those that no graph of the dialect rounds, and they are told to the manifest."""
    told = never_in_8_bits(traced()[0], dialect)
    reads = {"estimator.head.0", "restorer.head"} if dialect in ("trt", "fp8") else set()
    assert set(told) == reads
    weights = [node.input[1] for node in made(dialect).graph.node if node.op_type == "Conv"]
    plain = {name.removesuffix(".weight") for name in weights if not name.endswith(".rounded")}
    assert plain == reads


@pytest.mark.parametrize("dialect", ["trt", "fp8"])
def test_a_filter_of_zeros_has_a_step_in_half_precision_too(dialect: Dialect) -> None:
    net = checkpoint.random(TINY, 0)[0].eval()
    with torch.no_grad():
        net.get_parameter("restorer.blocks.0.conv1.weight")[0].zero_()
    spec, graph = traced()[1], replace(graph_of(TINY), precision="int8")
    bits = EightBits(ranges=ranges(), dialect=dialect)
    reduced = to_onnx.export(net, to_onnx.of_graph(spec, net, graph), graph, bits=bits)
    scales = [v for n, v in values(reduced).items() if n.endswith(".scale")]
    assert all((scale > 0).all() for scale in scales)
    assert np.isfinite(sharp(reduced, picture())).all()


@pytest.mark.parametrize("dialect", ["ort", "openvino", "trt"])
def test_a_bias_beside_weights_of_nearly_nothing_stays(dialect: Dialect) -> None:
    """In steps of tiny weights it would be more than int32 holds."""
    net = checkpoint.random(TINY, 0)[0].eval()
    with torch.no_grad():
        net.get_parameter("restorer.head.weight")[0] = 1e-12
        net.get_parameter("restorer.head.bias")[0] = 0.5
    spec, graph = traced()[1], graph_of(TINY)
    plain = to_onnx.export(net, to_onnx.of_graph(spec, net, graph), graph)
    bits = EightBits(ranges=ranges(), dialect=dialect)
    graph = replace(graph, precision="int8")
    reduced = to_onnx.export(net, to_onnx.of_graph(spec, net, graph), graph, bits=bits)
    assert psnr(sharp(reduced, picture()), sharp(plain, picture())) > 40


def test_what_comes_out_and_residual_sums_are_not_rounded() -> None:
    reduced = made("ort")
    producers = {name: node for node in reduced.graph.node for name in node.output}
    for name in ("sharp", "defocus"):
        assert producers[name].op_type not in ("DequantizeLinear", "QuantizeLinear")
    sums = {node.output[0] for node in reduced.graph.node if node.op_type == "Add"}
    ends = [node.input[0] for node in reduced.graph.node if node.op_type == "Add"]
    assert sums & set(ends), "the sum of a block goes unrounded into the next one's"


def test_layers_that_are_kept_stay_as_they_were() -> None:
    kept = "restorer.head"
    reduced = made("ort", kept)
    node = next(n for n in reduced.graph.node if f"{kept}.weight" in n.input)
    assert node.op_type == "Conv"
    assert kinds(reduced)["Conv"] == kinds(traced()[0])["Conv"]
    everything = [layer.name for layer in find_layers(traced()[0])]
    untouched = made("ort", *everything)
    np.testing.assert_array_equal(sharp(untouched, picture()), sharp(traced()[0], picture()))


@pytest.mark.parametrize("dialect", ["ort", "openvino", "trt"])
def test_weights_may_be_rounded_when_the_graph_is_loaded(dialect: Dialect) -> None:
    inside, outside = made(dialect), made(dialect, inline=False)
    names = {t.name for t in outside.graph.initializer}
    # not the head: TensorRT's dialects leave the layers that read the picture in floats
    assert "restorer.blocks.0.conv1.weight" in names
    assert "restorer.blocks.0.conv1.weight" not in {t.name for t in inside.graph.initializer}
    np.testing.assert_array_equal(sharp(inside, picture()), sharp(outside, picture()))


def test_the_graph_that_was_given_stays() -> None:
    before = traced()[0].SerializeToString(deterministic=True)
    made("ort")
    assert traced()[0].SerializeToString(deterministic=True) == before


def test_a_half_precision_graph_keeps_its_type_between_the_convolutions() -> None:
    net, spec = net_and_spec()
    graph = replace(graph_of(TINY), precision="int8")
    bits = EightBits(ranges=ranges(), dialect="trt")
    reduced = to_onnx.export(net, to_onnx.of_graph(spec, net, graph), graph, bits=bits)
    onnx.checker.check_model(reduced, full_check=True)
    scales = [v for n, v in values(reduced).items() if n.endswith(".scale")]
    assert {v.dtype for v in scales} == {np.dtype(np.float16)}
    assert psnr(sharp(reduced, picture()), sharp(traced()[0], picture())) > 40


def test_ranges_of_other_weights_are_refused() -> None:
    model, spec = traced()
    other = replace(spec, weights_sha256="0" * 64)
    with pytest.raises(ArtefactError, match="with weights 000000000000: calibrate again"):
        quantize(model, other, ranges(), "ort")


def test_ranges_that_lack_a_layer_are_refused() -> None:
    model, spec = traced()
    some = dict(list(ranges().layers.items())[1:])
    with pytest.raises(ArtefactError, match="has other layers than when it was calibrated"):
        quantize(model, spec, replace(ranges(), layers=some), "ort")


def test_weights_and_biases_that_serve_twice() -> None:
    """The exporter keeps one of several equal biases; each convolution has its own steps."""
    helper, kind = onnx.helper, TensorProto.FLOAT
    weight = np.random.default_rng(0).normal(0, 0.3, (3, 3, 1, 1)).astype(np.float32)
    constants = {"a.weight": weight, "a.bias": np.full(3, 0.25, np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "a.weight", "a.bias"], ["once"]),
        helper.make_node("Conv", ["once", "a.weight", "a.bias"], ["sharp"]),
    ]
    ends = [helper.make_tensor_value_info(n, kind, [1, 3, "h", "w"]) for n in ("image", "sharp")]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "twice", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    names = [layer.name for layer in find_layers(model)]
    assert names == ["a", "a#2"]
    around = {name: Around((0.0, 1.0), (-2.0, 2.0)) for name in names}
    spec = traced()[1]
    reduced = quantize(model, spec, replace(ranges(), layers=around), "ort")
    onnx.checker.check_model(reduced, full_check=True)
    assert psnr(sharp(reduced, picture()), sharp(model, picture())) > 30


@pytest.mark.parametrize("io", ["frame", "frame16", "nv12"])
def test_a_face_changes_nothing_of_what_is_rounded(io: Io) -> None:
    """What is added to the picture, and the map, are rounded in no face of the graph."""
    net, spec = net_and_spec()
    bits = EightBits(ranges=ranges(), dialect="ort")
    shapes = Shapes.static(Size(64, 48))
    rounded = {}
    for face in ("float", io):
        graph = replace(graph_of(TINY), io=face, shapes=shapes)
        rounded[face] = kinds(bits.applied(to_onnx.trace(net, graph), spec))["QuantizeLinear"]
    assert rounded[io] == rounded["float"] > 0
