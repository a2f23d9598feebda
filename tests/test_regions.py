"""Rectangles around what is blurred: all of it, disjoint, and no dearer than one around all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from allfocus.runtime.regions import _largest_empty, active_blocks, block_side, fading, windows
from allfocus.runtime.spec import Size
from allfocus.runtime.tiling import Grain

Mask = NDArray[np.bool_]


@st.composite
def masks(draw: st.DrawFn) -> tuple[Mask, Grain]:
    """A few blobs in a frame whose sides are multiples."""
    grain = Grain(draw(st.integers(0, 40)), draw(st.sampled_from([1, 2, 16, 32])))
    height, width = (grain.multiple * draw(st.integers(1, 200 // grain.multiple)) for _ in range(2))
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(0, 4))):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[top : top + draw(st.integers(1, 40)), left : left + draw(st.integers(1, 40))] = True
    return mask, grain


@given(masks())
def test_windows_hold_all_that_is_active_and_are_disjoint(given_: tuple[Mask, Grain]) -> None:
    mask, grain = given_
    counted = np.zeros(mask.shape, int)
    found = windows(mask, grain)
    for window in found:
        window.of(counted)[...] += 1
        inside, step = window.of(mask), grain.multiple
        for ends in (inside[:step], inside[-step:], inside[:, :step], inside[:, -step:]):
            assert ends.any()  # none is larger than it must be
        for edge in (window.left, window.top, window.right, window.bottom):
            assert edge % grain.multiple == 0
    assert counted.max(initial=0) <= 1
    assert (counted[mask] == 1).all()
    assert bool(found) == mask.any()


@given(masks())
def test_they_cost_no_more_than_one_around_all(given_: tuple[Mask, Grain]) -> None:
    mask, grain = given_
    frame = Size(mask.shape[1], mask.shape[0])
    found = windows(mask, grain)
    if not found:
        return
    side = block_side(grain, frame)
    rows, columns = np.nonzero(active_blocks(mask, side))
    top, left = rows.min() * side, columns.min() * side
    bottom = min((rows.max() + 1) * side, frame.height)
    right = min((columns.max() + 1) * side, frame.width)
    around = type(found[0])(int(left), int(top), int(right - left), int(bottom - top))
    seen = sum(grain.around(window, frame).area for window in found)
    assert seen <= grain.around(around, frame).area


def test_two_spots_far_apart_are_two_windows_and_close_ones_are_one() -> None:
    grain = Grain(16, 16)
    mask = np.zeros((96, 640), bool)
    mask[40:50, 20:60] = mask[40:50, 560:600] = True
    assert len(windows(mask, grain)) == 2
    mask[...] = False
    mask[40:50, 20:60] = mask[40:50, 70:90] = True
    assert len(windows(mask, grain)) == 1


def test_a_subject_in_focus_amid_blur_is_left_out() -> None:
    grain = Grain(16, 16)
    mask = np.ones((480, 640), bool)
    mask[160:400, 160:480] = False
    found = windows(mask, grain)
    assert len(found) == 4
    assert sum(window.area for window in found) == mask.sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_empty_rectangle_is_found(seed: int) -> None:
    blocks = np.random.default_rng(seed).random((6, 7)) < 0.4
    best = 0
    for top in range(6):
        for left in range(7):
            for bottom in range(top + 1, 7):
                for right in range(left + 1, 8):
                    if not blocks[top:bottom, left:right].any():
                        best = max(best, (bottom - top) * (right - left))
    found = _largest_empty(blocks)
    assert (found.area if found else 0) == best
    assert found is None or not found.of(blocks).any()


def test_blocks_at_the_border_may_be_cut() -> None:
    mask = np.zeros((20, 37), bool)
    mask[19, 36] = True
    assert active_blocks(mask, 16).tolist() == [[False] * 3, [False, False, True]]


@pytest.mark.parametrize("width", [0, 8])
def test_weights_fall_from_what_is_active(width: int) -> None:
    active = np.zeros((5, 40), bool)
    active[:, :10] = True
    weights = fading(active, width)
    assert weights.dtype == np.float32
    assert (weights[:, :10] == 1).all()
    assert (weights[:, 10 + width :] == 0).all()
    assert (np.diff(weights[2]) <= 0).all()
    if width:
        np.testing.assert_allclose(weights[2, 10:18], 1 - np.arange(1, 9) / 8, atol=1e-5)
