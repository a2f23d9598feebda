"""Depth to blur: the circle of confusion, in pixels, with its units and its sign."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfocus.train.thin_lens import ThinLens, random_planes

LENS = ThinLens(focal_length=50, f_number=2, focus=2, pixel=6)


def test_a_known_circle() -> None:
    """50 mm at f/2, focused at 2 m: a point at infinity is A f / (s - f) = 0.641 mm wide."""
    assert LENS.radius(1e9) == pytest.approx(25 * 50 / 1950 / 2 * 1000 / 6, rel=1e-6)


def test_nothing_is_blurred_at_the_focal_plane_and_the_sign_tells_the_side() -> None:
    assert LENS.radius(2.0) == 0
    assert LENS.radius(3.0) > 0 > LENS.radius(1.5)


def test_the_radius_is_linear_in_inverse_depth() -> None:
    inverse = np.linspace(0.1, 2, 9)
    np.testing.assert_allclose(np.diff(LENS.radius(1 / inverse), 2), 0, atol=1e-9)


def test_stopping_down_two_stops_halves_it() -> None:
    smaller = ThinLens(focal_length=50, f_number=4, focus=2, pixel=6)
    assert smaller.radius(5.0) == pytest.approx(LENS.radius(5.0) / 2)


@pytest.mark.parametrize("focus", [0.05, 0.01, -1.0, float("nan")])
def test_what_cannot_be_in_focus_is_refused(focus: float) -> None:
    with pytest.raises(ValueError, match="focus"):
        ThinLens(focal_length=50, f_number=2, focus=focus, pixel=6)


def test_a_depth_behind_the_lens_is_refused() -> None:
    with pytest.raises(ValueError, match="depth"):
        LENS.radius(np.array([1.0, 0.0]))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 5), largest=st.floats(0.1, 16))
def test_random_planes_stand_back_to_front_within_the_largest(
    seed: int, count: int, largest: float
) -> None:
    radii = random_planes(np.random.default_rng(seed), count, largest)
    assert len(radii) == count
    assert list(radii) == sorted(radii, reverse=True)
    assert max(map(abs, radii)) <= largest * (1 + 1e-6)
