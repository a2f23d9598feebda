"""Radii from two views: small pictures as they are, large ones in tiles and reduced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime import views
from allfocus.runtime.errors import InputError
from allfocus.runtime.spec import Shapes, Size
from allfocus.runtime.views import _spans, radius_of_views


class Looking:
    """A stand-in for a Model: the radius is the left view's first channel."""

    def __init__(self, shapes: Shapes | None = None) -> None:
        self.graph = SimpleNamespace(io="float", shapes=shapes)
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, left: Any, right: Any) -> dict[str, Any]:
        assert left.shape == right.shape
        assert left.flags.c_contiguous
        self.seen.append(left.shape)
        plane = left if left.ndim == 2 else left[..., 0]
        return {"defocus": plane.astype(np.float32)}


def found(model: Looking, left: Any, right: Any) -> Any:
    return radius_of_views(model, left, right)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(30, 40, 3), (30, 40), (30, 40, 4)])
def test_small_views_are_looked_at_as_they_are(shape: tuple[int, ...]) -> None:
    model, view = Looking(), np.full(shape, 7, np.uint8)
    radius = found(model, view, view)
    assert model.seen == [shape]
    assert radius.dtype == np.float32
    np.testing.assert_array_equal(radius, np.full((30, 40), 7, np.float32))


@given(st.integers(1, 300), st.integers(1, 80))
def test_spans_cover_a_side_and_weigh_every_pixel(length: int, most: int) -> None:
    weights = np.zeros(length)
    for span, ramp in _spans(length, most):
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start == len(ramp) == min(length, most)
        weights[span] += ramp
    assert weights.min() > 0


@pytest.mark.parametrize("shape", [(100, 100), (31, 250), (230, 64)])
def test_tiles_give_what_the_whole_gives_where_neighbours_do_not_matter(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "TILE", 64)
    model = Looking()
    view = np.random.default_rng(0).integers(0, 9, (*shape, 3), np.uint8)
    np.testing.assert_allclose(found(model, view, view), view[..., 0], rtol=1e-5)
    assert max(max(each[:2]) for each in model.seen) == 64


def test_tiles_are_no_larger_than_the_graph_takes() -> None:
    model = Looking(Shapes.static(Size(48, 32)))
    view = np.zeros((100, 100, 3), np.uint8)
    assert found(model, view, view).shape == (100, 100)
    assert set(model.seen) == {(32, 48, 3)}


def test_a_seam_goes_over_from_one_tile_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two tiles say different things, no step is seen between neighbouring pixels."""
    monkeypatch.setattr(views, "TILE", 64)
    model = Looking()
    answers = iter((0.0, 8.0))

    def look(_: Looking, left: Any, right: Any) -> dict[str, Any]:
        del right
        return {"defocus": np.full(left.shape[:2], next(answers), np.float32)}

    monkeypatch.setattr(Looking, "__call__", look)
    view = np.zeros((64, 112, 3), np.uint8)
    radius = found(model, view, view)
    assert (radius[:, 0] == 0).all()
    assert (radius[:, -1] == 8).all()
    assert np.abs(np.diff(radius, axis=1)).max() < 1


def test_wide_blur_is_taken_from_reduced_views(monkeypatch: pytest.MonkeyPatch) -> None:
    """At full size the stand-in says 0 everywhere; at half size 3 on the left, 10 on the right."""
    monkeypatch.setattr(views, "_SMALL", 2000)

    def look(self: Looking, left: Any, right: Any) -> dict[str, Any]:
        del right
        self.seen.append(left.shape)
        radius = np.zeros(left.shape[:2], np.float32)
        if left.shape[0] == 32:
            radius[:, :24], radius[:, 24:] = 3, 10
        return {"defocus": radius}

    monkeypatch.setattr(Looking, "__call__", look)
    model, view = Looking(), np.zeros((64, 96, 3), np.uint8)
    radius = found(model, view, view)
    assert model.seen == [(64, 96, 3), (32, 48, 3)]
    assert radius[:, :46].max() == 0  # 6 pixels at full size: what is seen there counts
    assert radius[:, 50:].min() == 20


def test_radii_are_such_as_can_be_deblurred_by() -> None:
    view = np.full((40, 40, 3), 200, np.uint8)
    assert found(Looking(), view, view).max() == 64


@pytest.mark.parametrize(
    ("right", "told"),
    [
        (
            np.zeros((30, 41, 3), np.uint8),
            r"two views of one size and type, got uint8 \[30, 40, 3\]",
        ),
        (np.zeros((30, 40, 3), np.uint16), "two views of one size and type"),
        (np.zeros((30, 40, 3), np.int64), "expected"),
        (None, "expected"),
    ],
)
def test_what_is_no_other_view_is_refused(right: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        found(Looking(), np.zeros((30, 40, 3), np.uint8), right)
