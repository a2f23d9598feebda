"""ONNX files read without the package onnx, beside what that package and ONNX Runtime make."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.onnx_file import inlined, metadata

if TYPE_CHECKING:
    from conftest import Exported

onnx: Any = pytest.importorskip("onnx", reason="makes and compares ONNX files")
ort: Any = pytest.importorskip("onnxruntime", reason="runs ONNX files")


def answers(graph: bytes, **inputs: Any) -> list[Any]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def calling(*body: Any, **more: Any) -> Any:
    """y = twice(once(x)), where `once` has this body and an attribute `slope`."""
    h, f = onnx.helper, onnx.TensorProto.FLOAT
    opsets = [h.make_opsetid("", 20)]
    ours = [*opsets, h.make_opsetid("ours", 1)]
    once = h.make_function("ours", "once", ["a"], ["b"], list(body), opsets, **more)
    inner = [
        h.make_node("once", ["p"], ["m"], domain="ours", slope=0.5),
        h.make_node("once", ["m"], ["q"], domain="ours"),
    ]
    twice = h.make_function("ours", "twice", ["p"], ["q"], inner, ours)
    nodes = [
        h.make_node("twice", ["x"], ["t"], domain="ours", name="first"),
        h.make_node("twice", ["t"], ["y"], domain="ours", name="second"),
    ]
    shape = [h.make_tensor_value_info(name, f, [1, 4]) for name in "xy"]
    graph = h.make_graph(nodes, "g", shape[:1], shape[1:])
    return h.make_model(graph, opset_imports=ours, functions=[once, twice], ir_version=10)


def leaky() -> Any:
    node = onnx.helper.make_node("LeakyRelu", ["a"], ["b"])
    attribute = onnx.AttributeProto(
        name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT
    )
    node.attribute.append(attribute)
    return node


def test_metadata(tiny: Exported) -> None:
    model = onnx.load(str(tiny.float))
    assert metadata(tiny.float) == {p.key: p.value for p in model.metadata_props}


@pytest.mark.parametrize("default", [True, False])
def test_functions_in_functions_with_attributes(tmp_path: Path, default: bool) -> None:
    """`slope` is the call's, else the function's default, else the operator's own."""
    given = [onnx.helper.make_attribute("slope", 0.25)] if default else []
    model = calling(leaky(), attributes=[] if default else ["slope"], attribute_protos=given)
    path = tmp_path / "f.onnx"
    onnx.save(model, str(path))
    plain = inlined(path)
    assert plain is not None
    onnx.checker.check_model(plain, full_check=True)
    parsed = onnx.ModelProto.FromString(plain)
    assert not parsed.functions
    assert {n.op_type for n in parsed.graph.node} == {"LeakyRelu"}
    assert [o.domain for o in parsed.opset_import] == [""]
    x = np.float32([[-4, -1, 0, 3]])
    factor = (0.5 * (0.25 if default else 0.01)) ** 2
    (found,) = answers(plain, x=x)
    np.testing.assert_allclose(found, np.where(x < 0, factor * x, x), rtol=1e-6)


def test_a_file_without_functions_stays_as_it_is(tiny: Exported) -> None:
    assert inlined(tiny.float) is None


@pytest.mark.parametrize("name", ["sftnet-lite", "apl-lite-restore", "jdrl-reblur"])
def test_packaged_models_compute_the_same_with_weights_inside(name: str) -> None:
    path = packaged_onnx(name)
    plain = inlined(path)
    assert plain is not None
    model = onnx.ModelProto.FromString(plain)
    assert not model.functions
    assert {n.domain for n in model.graph.node} <= {""}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    inputs = {}
    for each in session.get_inputs():
        last = (32, 48) if isinstance(each.shape[2], str) or each.shape[2] is None else (1, 1)
        shape = (1, each.shape[1], *last)
        inputs[each.name] = random.random(shape, dtype=np.float32)
    for one, other in zip(session.run(None, inputs), answers(plain, **inputs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_weights_beside_it_must_be_whole_and_beside_it(tmp_path: Path) -> None:
    path = shutil.copy(packaged_onnx("jdrl-reblur"), tmp_path / "jdrl-reblur.onnx")
    with pytest.raises(ArtefactError, match=r"jdrl-reblur\.onnx: damaged.*safetensors"):
        inlined(path)
    whole = packaged_onnx("jdrl-reblur").with_suffix(".safetensors").read_bytes()
    (tmp_path / "jdrl-reblur.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtefactError, match=r"cut off: jdrl-reblur\.safetensors ends too early"):
        inlined(path)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for each in tensor.external_data:
            each.value = "../secret" if each.key == "location" else each.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError, match=r"outside of its folder, '\.\./secret'"):
        inlined(path)


def test_a_graph_in_a_function_is_refused(tmp_path: Path) -> None:
    h = onnx.helper
    branch = h.make_graph([h.make_node("Identity", ["a"], ["r"])], "g", [], [])
    node = h.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch)
    path = tmp_path / "f.onnx"
    path.write_bytes(calling(node, attributes=["slope"]).SerializeToString())
    with pytest.raises(ArtefactError, match="a graph inside a node"):
        inlined(path)


@pytest.mark.parametrize("read", [metadata, inlined])
@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x3a\x7f\x00", None])
def test_what_is_no_onnx_file(tmp_path: Path, read: Any, content: bytes | None) -> None:
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    says = r"x\.onnx: no such" if content is None else r"x\.onnx: damaged.*allfocus export"
    with pytest.raises(ArtefactError, match=says):
        read(path)
