from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfocus.train.psf import SHAPES, Aperture, Shape

radii = st.floats(0, 12)


@settings(max_examples=60, deadline=None)
@given(shape=st.sampled_from(SHAPES), radius=radii, blades=st.integers(5, 9))
def test_energy_is_kept_and_nothing_is_negative(shape: Shape, radius: float, blades: int) -> None:
    kernel = Aperture(shape=shape, blades=blades).kernel(radius)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() >= 0


@pytest.mark.parametrize("shape", SHAPES)
def test_no_radius_is_no_blur(shape: Shape) -> None:
    assert Aperture(shape=shape).kernel(0.0).tolist() == [[1.0]]


@pytest.mark.parametrize("radius", [2.0, 3.3, 6.0])
def test_a_disc_has_the_radius_it_says(radius: float) -> None:
    """A disc's mean squared distance from its centre is radius^2 / 2, a pixel's own adds 1 / 6."""
    kernel = Aperture(shape="disc").kernel(radius)
    reach = kernel.shape[0] // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    spread = float((kernel * (x**2 + y**2)).sum())
    assert math.sqrt(2 * (spread - 1 / 6)) == pytest.approx(radius, rel=0.05)


def test_the_gaussian_spreads_as_the_disc_does() -> None:
    kernel = Aperture(shape="gaussian").kernel(4.0)
    reach = kernel.shape[0] // 2
    x = np.arange(-reach, reach + 1)
    assert float((kernel.sum(axis=0) * x**2).sum()) == pytest.approx(2.0**2, rel=0.1)


@pytest.mark.parametrize("radius", [-1.0, math.nan, math.inf])
def test_an_impossible_radius_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="radius"):
        Aperture().kernel(radius)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    radius=st.floats(0, 40),
    blades=st.integers(5, 9),
    angle=st.floats(0, 2 * math.pi),
)
def test_both_halves_are_as_bright_as_the_whole(
    shape: Shape, radius: float, blades: int, angle: float
) -> None:
    lens = Aperture(shape=shape, blades=blades, angle=angle)
    left, right = (lens.half(radius, left=side) for side in (True, False))
    for half in (left, right):
        assert half.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
        assert half.min() >= 0
    np.testing.assert_allclose((left + right) / 2, lens.kernel(radius), atol=1e-7)


def test_an_even_lens_is_halved_in_its_middle() -> None:
    lens = Aperture(shape="disc")
    whole, left = lens.kernel(6.0), lens.half(6.0, left=True)
    middle = whole.shape[1] // 2
    np.testing.assert_array_equal(left[:, :middle], 2 * whole[:, :middle])
    np.testing.assert_array_equal(left[:, middle], whole[:, middle])
    assert not left[:, middle + 1 :].any()


def test_a_polygon_of_odd_blades_is_halved_to_equal_brightness() -> None:
    lens = Aperture(shape="polygon", blades=5)
    for side in (True, False):
        assert lens.half(6.0, left=side).sum() == pytest.approx(1, abs=1e-5)
