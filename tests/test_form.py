"""Cutting, padding and putting together pictures of one matrix, and of luma and chroma."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from allfocus.runtime.form import COLOUR, form_of
from allfocus.runtime.spec import Io, Size
from allfocus.runtime.tiling import Grain, Window, cover

Array = NDArray[Any]

halves = st.integers(1, 12)
yuv: Any = st.sampled_from(["nv12", "p010"])


def decoded(width: int, height: int, io: Io = "nv12", seed: int = 0) -> Array:
    """A frame of random samples."""
    random = np.random.default_rng(seed).integers(0, 256, (3 * height // 2, width))
    return random.astype(np.uint8) if io == "nv12" else (4 * random << 6).astype(np.uint16)


@given(halves, halves, st.integers(0, 20), st.integers(0, 20), yuv)
def test_luma_and_chroma_are_mirrored_each_for_itself(
    width: int, height: int, right: int, below: int, io: Io
) -> None:
    form, frame = form_of("image", io), decoded(2 * width, 2 * height, io)
    assert form.size(frame) == Size(2 * width, 2 * height)
    grown = form.grown(frame, Size(2 * (width + right), 2 * (height + below)))
    luma = np.pad(frame[: 2 * height], ((0, 2 * below), (0, 2 * right)), mode="reflect")
    pairs = frame[2 * height :].reshape(height, width, 2)
    pairs = np.pad(pairs, ((0, below), (0, right), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(grown[: 2 * (height + below)], luma)
    np.testing.assert_array_equal(grown[2 * (height + below) :], pairs.reshape(len(pairs), -1))
    if not right and not below:
        assert grown is frame


@pytest.mark.parametrize("io", ["frame", "nv12", "p010"])
def test_tiles_put_together_are_the_frame(io: Io) -> None:
    form, size, grain = form_of("image", io), Size(96, 72), Grain(7, 4)
    frame = np.random.default_rng(0).integers(0, 9, (72, 96, 3), np.uint8)
    if io != "frame":
        frame = decoded(96, 72, io)
    out = np.zeros_like(form.empty(size, frame))
    for tile in cover(Window.whole(size), size, Size(40, 32), grain):
        form.put(tile, form.cut(frame, tile.seen), out)
    np.testing.assert_array_equal(out, frame)


def test_a_window_is_cut_out_of_both() -> None:
    frame = np.arange(9 * 8, dtype=np.uint8).reshape(9, 8)  # 8x6
    part = form_of("image", "nv12").cut(frame, Window(2, 4, 4, 2))
    assert part.tolist() == [frame[4, 2:6].tolist(), frame[5, 2:6].tolist(), frame[8, 2:6].tolist()]
    part[...] = 0
    assert frame[4, 2] == 34


@given(halves, halves, yuv, st.integers(0, 99))
def test_what_has_no_weight_stays_and_whole_weight_is_the_other(
    width: int, height: int, io: Io, seed: int
) -> None:
    form = form_of("image", io)
    low = 0 if io == "nv12" else 5  # bits that the samples have beside their level
    under = decoded(2 * width, 2 * height, io, seed) + np.array(low, decoded(2, 2, io).dtype)
    part = decoded(2 * width, 2 * height, io, seed + 1) + np.array(low, under.dtype)
    weight = np.zeros((2 * height, 2 * width), np.float32)
    np.testing.assert_array_equal(form.blended(part, under, weight), under)
    np.testing.assert_array_equal(form.blended(part, under, weight + 1), part)
    mixed = form.blended(part, under, weight + np.float32(0.3))
    assert (mixed % form.step == under % form.step).all()
    assert np.abs(mixed - (0.3 * part + 0.7 * under)).max() <= 0.51 * form.step


def test_half_the_size_is_the_mean_and_even() -> None:
    form = form_of("image", "nv12")
    frame = np.full((9, 6), 10, np.uint8)  # 6x4
    assert form.fitting(Size(3, 2)) == Size(4, 2)
    assert np.unique(form.resized(frame, Size(4, 2))).tolist() == [10]
    assert form.resized(frame, Size(4, 2)).shape == (3, 4)
    assert COLOUR.fitting(Size(3, 2)) == Size(3, 2)


def test_size_is_width_by_height() -> None:
    assert COLOUR.size(np.zeros((4, 6), np.uint8)) == Size(6, 4)
    assert form_of("image", "p010").size(np.zeros((6, 8), np.uint16)) == Size(8, 4)


def test_planes_are_matrices_beside_any_face() -> None:
    assert form_of("defocus", "nv12") is COLOUR
    assert form_of("image", "frame16") is COLOUR
