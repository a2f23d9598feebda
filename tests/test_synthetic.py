from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfocus.train.psf import Aperture
from allfocus.train.scenes import draw_layers, leaves_texture
from allfocus.train.synthetic import (
    Image,
    Layer,
    Recipe,
    Sample,
    draw,
    margin_of,
    photograph,
    render,
    rich,
    to_linear,
    to_srgb,
)

SIDE = 48


def noise(rng: np.random.Generator, side: int) -> Image:
    return rng.random((side, side, 3), dtype=np.float32)


def flat(value: float, coverage: Image | None = None, radius: float = 0.0) -> Layer:
    everything = np.ones((SIDE, SIDE), np.float32)
    return Layer(
        np.full((SIDE, SIDE, 3), value, np.float32),
        everything if coverage is None else coverage,
        np.full((SIDE, SIDE), radius, np.float32),
    )


def assert_equal(first: Sample, second: Sample) -> None:
    for a, b in zip(vars(first).values(), vars(second).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def left_half() -> Image:
    coverage = np.zeros((SIDE, SIDE), np.float32)
    coverage[:, : SIDE // 2] = 1
    return coverage


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 1, width=32))
def test_the_srgb_curve_has_its_inverse(value: float) -> None:
    code = np.array([value], np.float32)
    assert to_srgb(to_linear(code))[0] == pytest.approx(value, abs=1e-5)


def test_known_points_of_the_srgb_curve() -> None:
    assert to_linear(np.array([0.5], np.float32))[0] == pytest.approx(0.21404, abs=1e-4)


def test_in_focus_nothing_changes() -> None:
    image = noise(np.random.default_rng(0), SIDE)
    layer = Layer(image, np.ones((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), np.float32))
    blurry, sharp, radius = render([layer], Aperture())
    np.testing.assert_array_equal(blurry, image)
    np.testing.assert_array_equal(sharp, image)
    assert radius.max() == 0


def test_a_point_of_light_keeps_its_energy() -> None:
    image = np.zeros((SIDE, SIDE, 3), np.float32)
    image[SIDE // 2, SIDE // 2] = 1
    plane = np.full((SIDE, SIDE), 5.0, np.float32)
    blurry, _, _ = render([Layer(image, np.ones_like(plane), plane)], Aperture(shape="polygon"))
    assert blurry.sum() == pytest.approx(3, rel=1e-4)
    assert blurry.max() < 0.05


def test_a_sharp_edge_in_front_is_not_smeared_by_the_blur_behind() -> None:
    blurry, sharp, radius = render([flat(0.2, radius=6), flat(0.9, left_half())], Aperture())
    np.testing.assert_allclose(blurry, sharp, atol=1e-5)
    assert radius[0, 0] == 0
    assert radius[0, -1] == 6


def test_a_blurred_edge_in_front_does_smear_over_what_is_behind() -> None:
    blurry, sharp, _ = render([flat(0.2), flat(0.9, left_half(), radius=6)], Aperture())
    beyond = SIDE // 2 + 2
    assert sharp[24, beyond, 0] == pytest.approx(0.2)
    assert blurry[24, beyond, 0] > 0.3
    assert blurry[24, beyond + 8, 0] == pytest.approx(0.2, abs=1e-5)


def test_blur_grows_along_a_slanted_plane() -> None:
    image = noise(np.random.default_rng(1), SIDE)
    ramp = np.tile(np.linspace(0, 6, SIDE, dtype=np.float32), (SIDE, 1))
    blurry, _, _ = render([Layer(image, np.ones_like(ramp), ramp)], Aperture())
    detail = np.abs(np.diff(blurry[..., 0], axis=0)).mean(axis=0)
    assert detail[:6].mean() > 4 * detail[-6:].mean()


@pytest.mark.parametrize("index", range(6))
def test_a_sample_is_a_function_of_its_seed(index: int) -> None:
    first, second = (
        draw(np.random.default_rng([7, index]), noise, SIDE, Recipe()) for _ in range(2)
    )
    assert_equal(first, second)
    assert first.blurry.shape == first.sharp.shape == (SIDE, SIDE, 3)
    assert 0 <= first.radius.min() <= first.radius.max() <= Recipe().beyond_radius
    assert 0 <= first.sharp.min() <= first.sharp.max() <= 1


def test_what_is_in_focus_is_to_be_left_as_it_was_taken() -> None:
    sample = draw(np.random.default_rng(3), noise, SIDE, Recipe(sharp_share=1.0))
    np.testing.assert_array_equal(sample.sharp, sample.blurry)


def test_what_spills_over_from_in_front_is_not_to_be_left() -> None:
    """A dark wall in focus, half of it behind a bright plane that is 8 pixels out of focus."""
    recipe = Recipe(jpeg_share=0)
    margin = margin_of(recipe)
    side = SIDE + 2 * margin
    all_of_it, half = np.ones((side, side), np.float32), np.zeros((side, side), np.float32)
    half[:, : side // 2] = 1

    def layer(light: float, cover: Image, radius: float) -> Layer:
        return Layer(np.full((side, side, 3), light, np.float32), cover, radius * all_of_it)

    layers = [layer(0.05, all_of_it, 0.0), layer(0.6, half, -8.0)]
    sample = photograph(np.random.default_rng(1), layers, Aperture(), recipe, margin)
    row = slice(SIDE // 2 + 1, SIDE // 2 + 5)  # beside the edge, on the wall
    assert (sample.radius[:, row] == 0).all()
    assert not sample.in_focus[:, row].any()
    assert sample.in_focus[:, -4:].all()  # as far from the edge as the blur reaches, and more
    wall = sample.sharp[:, -4:].mean()
    assert sample.blurry[:, row].mean() > wall + 0.1  # the spill
    np.testing.assert_allclose(sample.sharp[:, row], wall, atol=0.02)
    np.testing.assert_array_equal(sample.sharp[:, -4:], sample.blurry[:, -4:])  # beyond it


@pytest.mark.parametrize("index", range(12))
def test_everything_at_once_is_a_function_of_its_seed(index: int) -> None:
    recipe = rich(6.0, views=True, misaligned=True)
    first, second = (
        draw(np.random.default_rng([7, index]), leaves_texture, SIDE, recipe) for _ in range(2)
    )
    assert_equal(first, second)
    assert first.left is not None
    assert first.right is not None
    assert first.moved is not None
    for image in (first.left, first.right, first.moved):
        assert image.shape == (SIDE, SIDE, 3)
        assert 0 <= image.min() <= image.max() <= 1
    assert 0 <= first.radius.min() <= first.radius.max() <= recipe.beyond_radius


def test_views_and_the_moved_picture_change_nothing_else() -> None:
    recipes = (Recipe(layered_share=0), Recipe(layered_share=0, views=True, misaligned=True))
    plain, more = (draw(np.random.default_rng(5), noise, SIDE, recipe) for recipe in recipes)
    np.testing.assert_allclose(plain.blurry, more.blurry, atol=1.01 / 255)  # a rounding apart
    np.testing.assert_array_equal(plain.radius, more.radius)
    assert plain.left is plain.right is plain.moved is None


def test_views_share_the_blurry_picture_between_them() -> None:
    """But for noise, in linear light: each view has half of it."""
    recipe = Recipe(views=True, layered_share=0, sharp_share=0, jpeg_share=0)
    sample = draw(np.random.default_rng(2), noise, SIDE, recipe)
    assert sample.left is not None
    assert sample.right is not None
    mean = (to_linear(sample.left) + to_linear(sample.right)) / 2
    assert abs(float((mean - to_linear(sample.blurry)).mean())) < 0.005
    assert np.abs(sample.left - sample.right).mean() > 0.005


def test_the_moved_picture_is_the_sharp_one_moved() -> None:
    still = Recipe(misaligned=True, sharp_share=0, shift=0, zoom=0, flow=0, beyond_share=1)
    sample = draw(np.random.default_rng(2), noise, SIDE, still)
    assert sample.moved is not None
    np.testing.assert_allclose(sample.moved, sample.sharp, atol=1e-4)
    moved = draw(np.random.default_rng(2), noise, SIDE, Recipe(misaligned=True, flow=2.0)).moved
    assert moved is not None
    assert np.abs(moved - sample.sharp).mean() > 0.05


def test_in_focus_is_under_half_a_pixel() -> None:
    recipe = Recipe(sharp_share=0, slanted_share=1, beyond_share=0)
    masks = []
    for seed in range(20):
        sample = draw(np.random.default_rng(seed), noise, SIDE, recipe)
        assert sample.seen is not None
        np.testing.assert_array_equal(sample.in_focus, sample.seen < 0.5)
        masks.append(sample.in_focus.mean())
    assert 0 < np.mean(masks) < 0.5


def test_what_stands_in_front_is_nearer() -> None:
    """Signed radii fall towards the camera, and half of what is blurred stands before the focus."""
    recipe = replace(rich(), lens_share=0, crowded_share=0, sharp_share=0, layered_share=0.5)
    rng, middles = np.random.default_rng(4), []
    for _ in range(200):
        layers = draw_layers(rng, noise, SIDE, recipe)
        middles.append([float(each.radius[SIDE // 2, SIDE // 2]) for each in layers])
    assert {len(each) for each in middles} == {1, 2}
    assert all(each == sorted(each, reverse=True) for each in middles)
    blurred = [radius for each in middles for radius in each if abs(radius) > 0.5]
    before = sum(radius < 0 for radius in blurred)
    assert 0.4 < before / len(blurred) < 0.6


def test_the_first_recipe_still_draws_what_it_drew() -> None:
    """Weights trained with version 0.1's generator stay describable: same seeds, same crops."""
    sample = draw(np.random.default_rng([7, 4]), noise, 16, Recipe())
    figures = [float(image.mean()) for image in (sample.blurry, sample.sharp, sample.radius)]
    assert figures == pytest.approx([0.6417177, 0.6417177, 0.3327095], rel=1e-5)
