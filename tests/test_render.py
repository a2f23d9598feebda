"""The renderer against what optics says: edges of known width, views that add up."""

from __future__ import annotations

import numpy as np
import pytest

from allfocus.train.camera import Image
from allfocus.train.psf import SHAPES, Aperture, Shape
from allfocus.train.render import Layer, render, render_views, seen_radius, visible_radius

SIDE = 64
PENTAGON = Aperture(shape="polygon", blades=5, angle=0.5)
EVERYWHERE = np.ones((SIDE, SIDE), np.float32)


def plane(radius: float | Image, texture: Image | None = None, cover: Image | None = None) -> Layer:
    noise = np.random.default_rng(0).random((SIDE, SIDE, 3), dtype=np.float32)
    return Layer(
        noise if texture is None else texture,
        EVERYWHERE if cover is None else cover,
        np.asarray(radius * EVERYWHERE, np.float32),
    )


def point() -> Image:
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    image[SIDE // 2, SIDE // 2] = 1
    return image


def centre(image: Image) -> float:
    """How far right of the picture's middle its light is centred, pixels."""
    return float(
        (image[..., 0].sum(axis=0) * (np.arange(SIDE) - SIDE // 2)).sum() / image[..., 0].sum()
    )


@pytest.mark.parametrize("radius", [2.0, 4.5, 8.0])
@pytest.mark.parametrize("shape", ["disc", "gaussian"])
def test_the_map_is_in_pixels_of_radius(radius: float, shape: Shape) -> None:
    """Along a blurred edge light is spread as by a disc of the radius: by radius / 2.

    A pixel's own width adds 1 / 12 to the square of that.
    """
    step = np.zeros((SIDE, SIDE, 3), np.float32)
    step[:, SIDE // 2 :] = 1
    blurry, _, shown = render([plane(radius, step)], Aperture(shape=shape))
    spread = np.diff(blurry[SIDE // 2, :, 0])
    x = np.arange(SIDE - 1) - (SIDE // 2 - 1)
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    assert float((spread * x**2).sum()) == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.08)
    assert shown.min() == shown.max() == radius


@pytest.mark.parametrize("shape", SHAPES)
def test_the_halves_of_a_lens_make_the_whole(shape: Shape) -> None:
    lens = Aperture(shape=shape, angle=0.3)
    left, right = (lens.half(5.3, left=side) for side in (True, False))
    np.testing.assert_allclose((left + right) / 2, lens.kernel(5.3), atol=1e-7)
    assert left[:, left.shape[1] // 2 + 1 :].max() == 0
    assert left.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("radius", [5.0, -5.0, np.linspace(-4, 5, SIDE, dtype=np.float32)])
def test_views_of_a_plane_average_to_the_blurry_picture(radius: float | Image) -> None:
    layers, lens = [plane(radius)], Aperture(shape="polygon", blades=5)
    left, right = render_views(layers, lens)
    assert np.abs(left - right).max() > 0.05
    np.testing.assert_allclose((left + right) / 2, render(layers, lens)[0], atol=1e-5)


def test_views_of_layers_average_to_the_blurry_picture_but_for_covered_edges() -> None:
    cover = EVERYWHERE.copy()
    cover[:, SIDE // 2 :] = 0
    layers, lens = [plane(6.0), plane(-4.0, cover=cover)], Aperture()
    mean, whole = sum(render_views(layers, lens)) / 2, render(layers, lens)[0]
    np.testing.assert_allclose(mean[:, : SIDE // 2 - 6], whole[:, : SIDE // 2 - 6], atol=1e-5)
    np.testing.assert_allclose(mean[:, SIDE // 2 + 6 :], whole[:, SIDE // 2 + 6 :], atol=1e-5)
    assert np.abs(mean - whole).max() < 0.2


def test_sides_change_places_in_front_of_the_focus() -> None:
    lens = Aperture()
    behind, front = (render_views([plane(r, point())], lens) for r in (6.0, -6.0))
    np.testing.assert_allclose(behind[0], front[1], atol=1e-3)
    half_disc = 4 * 6.0 / (3 * np.pi)  # its centroid
    assert centre(behind[0]) == pytest.approx(-half_disc, abs=0.2)
    assert centre(front[0]) == pytest.approx(half_disc, abs=0.2)


def test_views_are_equal_where_all_is_in_focus() -> None:
    left, right = render_views([plane(0.0)], Aperture())
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("shape", SHAPES)
def test_energy_is_kept(shape: Shape) -> None:
    blurry, _, _ = render([plane(6.0, point())], Aperture(shape=shape))
    assert blurry.sum() == pytest.approx(3, rel=1e-4)
    assert sum(
        view.sum() for view in render_views([plane(6.0, point())], Aperture())
    ) == pytest.approx(6)


def test_the_butterworth_blur_is_brighter_at_its_edge() -> None:
    kernel = Aperture(shape="butterworth", softness=0.4).kernel(8.0)
    middle = kernel.shape[0] // 2
    assert kernel[middle, middle + 6] > 2 * kernel[middle, middle]


def test_light_that_spills_over_carries_its_radius() -> None:
    """Half of a disc's light falls on either side of the front's edge, and none beyond its rim."""
    cover = np.zeros((SIDE, SIDE), np.float32)
    cover[:, : SIDE // 2] = 1
    layers = [plane(0.0), plane(-6.0, cover=cover)]
    seen, shown = seen_radius(layers, Aperture()), visible_radius(layers)
    row, edge = seen[SIDE // 2], SIDE // 2
    assert row[0] == pytest.approx(6, abs=1e-4)
    assert (row[edge - 1] + row[edge]) / 2 == pytest.approx(3, abs=0.05)
    assert (shown[:, edge:] == 0).all()
    assert (row[edge : edge + 5] > 0.05).all()
    assert np.abs(seen[:, edge + 7 :]).max() < 1e-6


def test_of_one_plane_all_light_has_its_radius() -> None:
    np.testing.assert_allclose(seen_radius([plane(-3.0)], Aperture()), 3, rtol=1e-5)


@pytest.mark.parametrize(("lens", "same"), [(Aperture(), True), (PENTAGON, False)])
def test_what_stands_before_the_focus_shows_the_opening_turned(lens: Aperture, same: bool) -> None:
    behind, before = (render([plane(sign * 6.0, point())], lens)[0] for sign in (1, -1))
    middle = SIDE // 2 + 1  # of the part that the point lies in the middle of
    turned = behind[1:, 1:][::-1, ::-1]
    np.testing.assert_allclose(before[1:, 1:], turned, atol=1e-3)
    assert before[middle - 1, middle - 1, 0] == pytest.approx(behind[middle - 1, middle - 1, 0])
    assert np.allclose(before, behind, atol=1e-3) == same


@pytest.mark.parametrize("lens", [PENTAGON, Aperture(shape="polygon", blades=7, angle=0.1)])
def test_halves_of_an_opening_that_is_turned_make_the_whole(lens: Aperture) -> None:
    layers = [plane(np.linspace(-6, 6, SIDE, dtype=np.float32))]
    mean, whole = sum(render_views(layers, lens)) / 2, render(layers, lens)[0]
    np.testing.assert_allclose(mean, whole, atol=1e-5)
