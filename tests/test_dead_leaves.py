"""Generated pictures: repeatable, covered with leaves of all sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from allfocus.train.dead_leaves import draw_cover, draw_leaves


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(8, 96))
def test_a_picture_is_a_function_of_its_seed(seed: int, side: int) -> None:
    first, second = (draw_leaves(np.random.default_rng(seed), side) for _ in range(2))
    assert first.shape == (side, side, 3)
    assert first.dtype == np.uint8
    assert (first == second).all()


def test_there_is_detail_at_every_scale_as_in_photos() -> None:
    """The spectrum of natural pictures' amplitude falls about as 1 / f."""
    slopes = []
    for seed in range(12):
        grey = draw_leaves(np.random.default_rng(seed), 128)[..., 1].astype(np.float64)
        window = np.outer(np.hanning(128), np.hanning(128))
        power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
        radius = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(128) * 128]))
        rings = [power[(radius >= r) & (radius < 1.5 * r)].mean() for r in (3, 6, 12, 24)]
        slopes.append(np.polyfit(np.log([3, 6, 12, 24]), np.log(rings), 1)[0] / 2)
    assert -1.6 < np.mean(slopes) < -0.8


def test_a_cover_has_leaves_and_gaps() -> None:
    covers = [draw_cover(np.random.default_rng(seed), 64) for seed in range(20)]
    assert all(c.min() >= 0 and c.max() <= 1 for c in covers)
    assert 0.05 < np.mean([c.mean() for c in covers]) < 0.7
