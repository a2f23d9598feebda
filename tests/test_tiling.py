"""Tiles: geometry alone, with a net stood in for by a sum over what it may see."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.errors import InputError
from allfocus.runtime.spec import Size
from allfocus.runtime.tiling import Grain, Tile, Window, best_tile, blended, cover, least_pixels


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Size, Window, Grain, int]:
    """A frame, a region in it, what a net demands, and the pixels a tile may have."""
    grain = Grain(draw(st.integers(0, 9)), draw(st.sampled_from([1, 2, 4, 8])))
    step = grain.multiple
    width, height = (step * draw(st.integers(1, 30)) for _ in range(2))
    left, top = (step * draw(st.integers(0, side // step - 1)) for side in (width, height))
    right = left + step * draw(st.integers(1, (width - left) // step))
    bottom = top + step * draw(st.integers(1, (height - top) // step))
    region = Window(left, top, right - left, bottom - top)
    return Size(width, height), region, grain, draw(st.integers(1, 4000))


@given(cuts())
def test_tiles_cover_a_region_once_and_see_enough(cut: tuple[Size, Window, Grain, int]) -> None:
    frame, region, grain, pixels = cut
    around = grain.around(region, frame)
    tile = best_tile(around.size, grain, pixels)
    if tile is None:
        assert least_pixels(around.size, grain) > pixels
        return
    assert tile.width * tile.height <= pixels
    counted = np.zeros((frame.height, frame.width), int)
    for part in cover(region, frame, tile, grain):
        assert part.seen.size == tile
        assert 0 <= part.seen.left <= part.seen.right <= frame.width
        assert 0 <= part.seen.top <= part.seen.bottom <= frame.height
        needed = grain.around(part.kept, frame)
        assert part.seen.left <= max(0, part.kept.left - grain.halo)
        assert part.seen.top <= max(0, part.kept.top - grain.halo)
        assert part.seen.right >= min(frame.width, part.kept.right + grain.halo) <= needed.right
        assert part.seen.bottom >= min(frame.height, part.kept.bottom + grain.halo)
        for value in (part.seen.left, part.seen.top, part.kept.left, part.kept.top):
            assert value % grain.multiple == 0
        part.kept.of(counted)[...] += 1
    expected = np.zeros_like(counted)
    region.of(expected)[...] = 1
    np.testing.assert_array_equal(counted, expected)


@given(cuts())
def test_the_tile_is_never_worse_than_others_of_the_budget(
    cut: tuple[Size, Window, Grain, int],
) -> None:
    """A brute force over all sizes finds none that does the whole frame with less work."""
    frame, _, grain, pixels = cut
    region = Window.whole(frame)
    tile = best_tile(frame, grain, pixels)
    if tile is None:
        return

    def work(size: Size) -> int:
        return sum(part.seen.area for part in cover(region, frame, size, grain))

    least = work(tile)
    step = grain.multiple
    for width in range(step, frame.width + 1, step):
        for height in range(step, frame.height + 1, step):
            fits = width == frame.width or width > 2 * grain.margin
            fits &= height == frame.height or height > 2 * grain.margin
            if fits and width * height <= pixels:
                assert work(Size(width, height)) >= least


def test_a_frame_within_the_budget_is_one_tile() -> None:
    frame, grain = Size(64, 48), Grain(7, 4)
    tile = best_tile(frame, grain, 64 * 48)
    assert tile == frame
    whole = Window.whole(frame)
    assert cover(whole, frame, frame, grain) == [Tile(whole, whole)]


def test_the_last_tiles_are_shifted_inward() -> None:
    parts = cover(Window(0, 0, 100, 20), Size(100, 20), Size(48, 20), Grain(6, 4))
    assert [part.seen.left for part in parts] == [0, 32, 52]
    assert [(part.kept.left, part.kept.right) for part in parts] == [(0, 40), (40, 72), (72, 100)]


def test_a_kept_part_is_put_where_it_belongs() -> None:
    frame = np.zeros((6, 8), np.uint8)
    result = np.arange(16, dtype=np.uint8).reshape(4, 4)
    Tile(Window(2, 1, 4, 4), Window(3, 2, 2, 1)).put(result, frame)
    assert frame[2, 3:5].tolist() == [5, 6]
    assert np.count_nonzero(frame) == 2


@pytest.mark.parametrize("length", [16, 4])
def test_a_tile_that_would_keep_nothing_is_refused(length: int) -> None:
    with pytest.raises(InputError, match="must be larger than 16"):
        cover(Window(0, 0, 64, 8), Size(64, 8), Size(length, 8), Grain(8, 4))


def test_a_tile_larger_than_the_frame_is_refused() -> None:
    with pytest.raises(InputError, match="not larger than the frame"):
        cover(Window(0, 0, 64, 8), Size(64, 8), Size(68, 8), Grain(8, 4))


@pytest.mark.parametrize(("halo", "multiple"), [(-1, 4), (3, 0)])
def test_a_spec_that_says_not_what_a_tile_must_see_is_refused(halo: int, multiple: int) -> None:
    with pytest.raises(InputError, match="tiles are not possible"):
        Grain(halo, multiple)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_blending_keeps_what_has_no_weight(dtype: type) -> None:
    part, under = np.full((1, 3, 3), 1, dtype), np.zeros((1, 3, 3), dtype)
    mixed = blended(part, under, np.array([[0, 0.4, 1]], np.float32))
    assert mixed.dtype == dtype
    assert mixed[0, 0, 0] == 0
    assert mixed[0, 2, 0] == 1
    assert mixed[0, 1, 0] == (np.float32(0.4) if dtype == np.float32 else 0)
