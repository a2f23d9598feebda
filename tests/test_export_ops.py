"""The two operations in exported nets: as functions, as plugin nodes, and in TensorRT for RTX."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper
from onnx_calls import ISOTROPIC, calling, started
from ops_net import LEVELS, NAMES, ops_net

from allfocus.export import ops, to_onnx
from allfocus.export.builder import build_engine
from allfocus.export.flavour import DEFAULT_TARGETS, Target
from allfocus.export.verify import verify
from allfocus.kernels.taps import seed_count
from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import Graph, Io, Precision, Shapes, Size

RTX = Target(flavour="tensorrt-rtx", version="", targets=DEFAULT_TARGETS, gpu="")


def graph_of(precision: Precision, io: Io = "float", size: Size | None = None) -> Graph:
    shapes = None if size is None else Shapes.static(size)
    return Graph(io=io, precision=precision, color="rgb", shapes=shapes)


@pytest.fixture(scope="module")
def exported() -> ModelProto:
    """The net with both operations, for any size, in float32."""
    return to_onnx.export(*ops_net(), graph_of("fp32"))


def own_nodes(model: ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.domain == "allfocus"]


def test_a_net_brings_the_functions_it_calls(exported: ModelProto) -> None:
    called = [node.op_type for node in own_nodes(exported)]
    assert called == [
        f"IsotropicConv_{LEVELS}",
        "SftModulate_spatial_leaky",
        "SftModulate_relu",
        "SftModulate",
        f"IsotropicConv_{LEVELS}",
    ]
    assert [f.name for f in exported.functions] == sorted(set(called))
    assert {f.domain for f in exported.functions} == {"allfocus"}
    assert ops.has_operations(exported)
    onnx.checker.check_model(exported, full_check=True)


def test_inner_names_meet_no_others(exported: ModelProto) -> None:
    """Or TensorRT 10.1 would compute with an outer tensor instead of a function's input."""
    outer = {i.name for i in (*exported.graph.input, *exported.graph.initializer)}
    outer |= {name for node in exported.graph.node for name in node.output}
    inner = [{*f.input, *(o for n in f.node for o in n.output)} for f in exported.functions]
    assert not any(names & outer for names in inner)
    assert sum(map(len, inner)) == len(set().union(*inner))


@settings(max_examples=10)
@given(width=st.integers(1, 12), height=st.integers(1, 12))
def test_a_net_of_any_size_computes_what_pytorch_does(
    exported: ModelProto, width: int, height: int
) -> None:
    net, _ = ops_net()
    image = torch.rand(1, 3, 2 * height, 2 * width)
    with torch.inference_mode():
        expected = net(image)[0].numpy()
    found = started(exported).run(["sharp"], {"image": image.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("io", "precision"), [("float", "fp32"), ("frame", "fp16")])
def test_both_faces_pass_the_exports_own_check(
    tmp_path: Path, io: Io, precision: Precision
) -> None:
    net, spec = ops_net()
    graph = graph_of(precision, io, Size(62, 44))
    to_onnx.write(to_onnx.export(net, spec, graph), tmp_path / "x.onnx")
    figures = verify(tmp_path / "x.onnx", net, graph)
    assert figures["psnr_db"] > 55


def test_levels_of_an_unknown_number_are_refused() -> None:
    class Symbolic:
        shape = (1, "m", 8, 8)

    translate = ops.translations()[torch.ops.allfocus.isotropic_conv.default]
    with pytest.raises(UsageError, match="m weights a pixel; an ONNX graph has a fixed number"):
        translate(Symbolic(), Symbolic(), Symbolic())


def test_the_plugin_form_is_the_same_graph_without_functions(exported: ModelProto) -> None:
    before = copy.deepcopy(exported)
    form = ops.plugin_form(exported)
    assert exported == before
    assert not form.functions
    assert tuple(node.op_type for node in own_nodes(form)) == NAMES
    for node, former in zip(form.graph.node, exported.graph.node, strict=True):
        assert (node.domain, list(node.input)) == (former.domain, list(former.input))
        assert list(node.output) == list(former.output)


def test_plugin_nodes_are_what_the_plugins_take(exported: ModelProto) -> None:
    """See kernels/trt_plugins/README.md."""
    nodes = own_nodes(ops.plugin_form(exported))
    assert [len(node.input) for node in nodes] == [3, 4, 3, 3, 3]
    assert all(name for node in nodes for name in node.input)
    for node in nodes:
        found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert (found.pop("plugin_namespace"), found.pop("plugin_version")) == (b"allfocus", b"1")
        assert set(found) == ({"slope"} if node.op_type == "SftModulate" else set())
    slopes = [a.f for node in nodes for a in node.attribute if a.name == "slope"]
    assert slopes == pytest.approx([0.2, 0.0, 1.0])


def test_functions_of_others_stay_in_the_plugin_form(exported: ModelProto) -> None:
    other = ModelProto()
    other.CopyFrom(exported)
    body = [helper.make_node("Relu", ["x"], ["y"])]
    opsets = [helper.make_opsetid("", 20)]
    other.functions.append(helper.make_function("other", "F", ["x"], ["y"], body, opsets))
    assert [f.name for f in ops.plugin_form(other).functions] == ["F"]


def rtx_network(model: ModelProto) -> Any:
    """The network that TensorRT for RTX reads from `model`, with what keeps it alive."""
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    errors = [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert parser.parse(model.SerializeToString()), errors
    return network, parser, builder


@pytest.mark.rtx
def test_rtx_wires_each_call_to_its_own_tensors(exported: ModelProto) -> None:
    """One function is called twice: its inner names come twice too."""
    network, *alive = rtx_network(exported)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    entries = [layer for layer in layers if f"IsotropicConv_{LEVELS}.Cast_" in layer.name]
    calls = [node for node in own_nodes(exported) if node.op_type.startswith("Isotropic")]
    assert [layer.get_input(0).name for layer in entries] == [n for c in calls for n in c.input]
    del layers, entries, network, alive


@pytest.mark.rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_rtx_builds_the_net(
    tmp_path: Path, precision: Precision, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    graph = graph_of(precision, "frame", Size(64, 48))
    to_onnx.write(to_onnx.export(*ops_net(), graph), tmp_path / "x.onnx")
    with caplog.at_level(logging.WARNING, "allfocus"):
        built = build_engine(tmp_path / "x.onnx", graph, RTX)
    assert built.data
    assert built.plugins is False
    assert not [r for r in caplog.records if r.name == "allfocus"]


@pytest.mark.rtx
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
@pytest.mark.parametrize("levels", [2, 8])
def test_rtx_builds_a_call_for_a_range_of_sizes(kind: int, levels: int) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    channels = {"image": 3, "seeds": seed_count(levels), "weights": levels}
    shapes = {i: [1, c, f"{i}_h", f"{i}_w"] for i, c in channels.items()}
    network, _, builder = rtx_network(
        calling(f"IsotropicConv_{levels}", ISOTROPIC, kind, shapes=shapes)
    )
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    profile = builder.create_optimization_profile()
    for name, count in channels.items():
        sizes = ((1, 1), (400, 600), (800, 1200))
        profile.set_shape(name, *((1, count, *size) for size in sizes))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
