"""Specs, sizes and graphs: text and back, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.errors import ArtefactError, UsageError
from allfocus.runtime.spec import YUV, Graph, Matrix, Range, Shapes, Size, Spec

sizes = st.builds(Size, st.integers(1, 10**5), st.integers(1, 10**5))
specs = st.builds(
    Spec,
    max_radius=st.floats(0, 100),
    macs_per_pixel=st.floats(0, 1e9),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    widths, heights = (sorted(draw(st.tuples(*[st.integers(1, 9999)] * 3))) for _ in "wh")
    return Shapes(*(Size(w, h) for w, h in zip(widths, heights, strict=True)))


graphs = st.builds(
    Graph,
    io=st.sampled_from(["frame", "float", "frame16"]),
    precision=st.sampled_from(["fp32", "fp16"]),
    color=st.sampled_from(["rgb", "bgr"]),
    shapes=st.none() | shapes(),
) | st.builds(
    Graph,
    io=st.sampled_from(YUV),
    precision=st.sampled_from(["fp32", "fp16"]),
    color=st.just("rgb"),
    shapes=st.none() | shapes(),
    matrix=st.sampled_from(get_args(Matrix)),
    range=st.sampled_from(get_args(Range)),
)


@given(specs)
def test_a_spec_comes_back_from_its_text(spec: Spec) -> None:
    text = spec.to_json()
    assert Spec.from_json(text) == spec
    assert "\n" not in text


@given(graphs)
def test_a_graph_comes_back_from_its_text(graph: Graph) -> None:
    assert Graph.from_json(graph.to_json()) == graph


def test_matrix_and_range_are_written_where_the_face_has_them() -> None:
    frame = Graph(io="frame", precision="fp16", color="bgr", shapes=None)
    assert not {"matrix", "range"} & set(frame.to_dict())  # files that were there before load
    assert frame.face == "frame bgr"
    decoded = Graph(io="nv12", precision="fp16", color="rgb", shapes=None, range="full")
    data = decoded.to_dict()
    assert (data["matrix"], data["range"], decoded.face) == ("bt709", "full", "nv12 bt709 full")
    for name, wrong in (("matrix", "bt470"), ("range", None)):
        with pytest.raises(ArtefactError, match=f"{name}: expected"):
            Graph.from_dict({**data, name: wrong})
    del data["matrix"]
    with pytest.raises(ArtefactError, match=r"missing keys \['matrix'\]"):
        Graph.from_dict(data)


@given(sizes)
def test_a_size_comes_back_from_its_text(size: Size) -> None:
    assert Size.parse(str(size)) == size
    assert Size.parse(str(size).upper()) == size


@given(sizes, st.integers(1, 64))
def test_padding_reaches_the_next_multiple(size: Size, multiple: int) -> None:
    padded = size.padded(multiple)
    for small, large in ((size.width, padded.width), (size.height, padded.height)):
        assert large % multiple == 0
        assert 0 <= large - small < multiple


@pytest.mark.parametrize("text", ["", "600", "600x", "x400", "600x400x3", "-6x4", "6.0x4", "a x b"])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected WIDTHxHEIGHT.*600x400"):
        Size.parse(text)


@pytest.mark.parametrize("text", ["0x4", "4x0"])
def test_a_size_of_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Size.parse(text)


def test_shapes_in_wrong_order() -> None:
    small, large = Size(10, 10), Size(20, 20)
    with pytest.raises(UsageError, match="not within"):
        Shapes(large, small, large)
    with pytest.raises(UsageError, match="not within"):
        Shapes(small, large, Size(30, 10))


def test_shapes_as_text() -> None:
    assert str(Shapes.static(Size(600, 400))) == "600x400"
    assert str(Shapes(Size(1, 2), Size(3, 4), Size(5, 6))) == "1x2-3x4-5x6"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "{}"])
@pytest.mark.parametrize("kind", [Spec, Graph])
def test_text_that_is_none(kind: Any, text: str) -> None:
    with pytest.raises(ArtefactError, match=kind.__name__):
        kind.from_json(text)


@given(specs, st.data())
def test_a_missing_key_is_named(spec: Spec, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([f.name for f in fields(Spec)]))
    values = asdict(spec)
    del values[name]
    with pytest.raises(ArtefactError, match=rf"missing keys \['{name}'\].*allfocus export"):
        Spec.from_json(json.dumps(values))


@given(specs)
def test_an_unknown_key_is_named(spec: Spec) -> None:
    text = json.dumps({**asdict(spec), "colour": "rgb"})
    with pytest.raises(ArtefactError, match=r"unknown keys \['colour'\]"):
        Spec.from_json(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [("multiple", "4"), ("multiple", 4.5), ("global_context", 1), ("name", 3), ("halo", True)],
)
def test_a_value_of_the_wrong_type_is_named(name: str, value: object) -> None:
    spec = Spec(**{f.name: _example(f.type) for f in fields(Spec)})
    with pytest.raises(ArtefactError, match=f"{name}: expected .*{value!r}"):
        Spec.from_json(json.dumps({**asdict(spec), name: value}))


def _example(kind: object) -> Any:
    return {"int": 4, "float": 1.0, "bool": False, "str": "text"}[str(kind)]


@given(graphs, st.sampled_from(["io", "precision", "color", "shapes"]), json_values)
def test_a_graph_is_right_or_refused(graph: Graph, name: str, value: Any) -> None:
    """Whatever stands in a damaged file: a Graph like it, or ArtefactError."""
    damaged = {**graph.to_dict(), name: value}
    try:
        read = Graph.from_json(json.dumps(damaged))
    except ArtefactError:
        return
    assert read.to_dict()[name] == value or name == "shapes"
