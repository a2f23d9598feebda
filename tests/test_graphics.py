"""Drawn graphics: repeatable, sharp to the pixel, and of high contrast."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from allfocus.train.graphics import draw_graphics


@given(seed=st.integers(0, 2**32 - 1), side=st.integers(8, 96))
def test_a_picture_is_a_function_of_its_seed(seed: int, side: int) -> None:
    first, second = (draw_graphics(np.random.default_rng(seed), side) for _ in range(2))
    assert first.shape == (side, side, 3)
    assert first.dtype == np.uint8
    assert (first == second).all()


def test_edges_are_hard() -> None:
    """Most pictures hold neighbours that differ by more than half the range."""
    steps = [
        np.abs(np.diff(draw_graphics(np.random.default_rng(i), 128).astype(int), axis=1)).max()
        for i in range(40)
    ]
    assert np.mean(np.array(steps) > 128) > 0.8
