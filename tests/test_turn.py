"""The eight ways to lay a picture, against NumPy's, in every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from allfocus.runtime.form import COLOUR, form_of
from allfocus.runtime.spec import Io, Size
from allfocus.runtime.turn import Turn

Array = NDArray[Any]

turns = st.builds(Turn, st.integers(0, 3), st.booleans())


def laid(pixels: Array, turn: Turn) -> Array:
    """By NumPy."""
    turned = np.rot90(pixels, turn.quarters)
    return np.asarray(turned[:, ::-1] if turn.mirrored else turned)


@given(
    turns,
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([(), (2,), (3,)]),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_a_turn_is_numpys_and_its_inverse_undoes_it(
    turn: Turn, height: int, width: int, channels: tuple[int, ...], dtype: Any
) -> None:
    pixels = np.random.default_rng(0).integers(0, 99, (height, width, *channels)).astype(dtype)
    found = COLOUR.turned(pixels, turn)
    np.testing.assert_array_equal(found, laid(pixels, turn))
    assert found.dtype == pixels.dtype
    assert COLOUR.size(found) == turn.of_size(Size(width, height))
    np.testing.assert_array_equal(COLOUR.turned(found, turn.inverse), pixels)


@given(turns, st.integers(1, 6), st.integers(1, 6), st.sampled_from(["nv12", "p010"]))
def test_luma_and_chroma_turn_each_for_itself(turn: Turn, height: int, width: int, io: Io) -> None:
    form, rng = form_of("image", io), np.random.default_rng(0)
    frame = rng.integers(0, 250, (3 * height, 2 * width)).astype(np.uint8)
    found = form.turned(frame, turn)
    for (part, _), (source, _) in zip(form.parts(found), form.parts(frame), strict=True):
        np.testing.assert_array_equal(part, laid(source, turn))
    np.testing.assert_array_equal(form.turned(found, turn.inverse), frame)


def test_the_eight_ways_differ() -> None:
    square = np.arange(9, dtype=np.uint8).reshape(3, 3)
    ways = [Turn(quarters, mirrored) for quarters in range(4) for mirrored in (False, True)]
    assert len({COLOUR.turned(square, way).tobytes() for way in ways}) == 8


@pytest.mark.parametrize("io", ["frame", "nv12"])
def test_as_it_lies_nothing_is_copied(io: Io) -> None:
    frame = np.zeros((6, 4), np.uint8)
    assert form_of("image", io).turned(frame, Turn()) is frame
