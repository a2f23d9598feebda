"""The classical baselines: what they gain on blur that is known, and what they leave alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("scipy", reason="classical baselines need SciPy")

from allfocus.benchmarks.common import PHOTO
from allfocus.benchmarks.deconvolution import (
    DEFAULT,
    METHODS,
    Config,
    deconvolve,
    richardson_lucy,
    wiener,
)
from allfocus.runtime.catalogue import BASELINES
from allfocus.runtime.errors import InputError, UsageError
from allfocus.train.metrics import psnr
from allfocus.train.psf import Aperture
from allfocus.train.synthetic import to_linear, to_srgb

Image = NDArray[np.float32]
LENS = Aperture(shape="disc")


def photo() -> Image:
    """The cat's face, sRGB-coded [160, 208, 3]: in focus, with whiskers."""
    image = cv2.imread(str(PHOTO))
    assert image is not None
    return image[40:200, 110:318].astype(np.float32) / np.float32(255)


def blurred(sharp: Image, radius: float) -> Image:
    """`sharp` as a camera takes it out of focus: in linear light, with light noise, in 8 bits."""
    soft = cv2.filter2D(to_linear(sharp), cv2.CV_32F, LENS.kernel(radius))
    rng = np.random.default_rng(0)
    spread = np.sqrt(1e-4 * np.maximum(soft, 0) + 1e-6)
    noisy = soft + spread * rng.standard_normal(soft.shape, dtype=np.float32)
    code = to_srgb(np.clip(noisy, 0, 1).astype(np.float32))
    return (np.rint(255 * code) / 255).astype(np.float32)


def inner(image: Image, border: int = 24) -> Image:
    """Without what was blurred from beyond the border, and so with a true radius all over."""
    return image[border:-border, border:-border]


def flat(image: Image, radius: float) -> Image:
    return np.full(image.shape[:2], radius, np.float32)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("radius", "least"), [(1.0, 1.2), (3.0, 1.5), (5.0, 1.5)])
def test_a_true_map_gains(name: str, radius: float, least: float) -> None:
    sharp = photo()
    taken = blurred(sharp, radius)
    made = deconvolve(taken, flat(taken, radius), name)
    assert made.dtype == np.float32
    assert made.shape == taken.shape
    assert 0 <= made.min() <= made.max() <= 1
    gain = psnr(inner(made), inner(sharp)) - psnr(inner(taken), inner(sharp))
    assert gain > least


@pytest.mark.parametrize("name", BASELINES)
def test_a_wrong_map_gains_less(name: str) -> None:
    sharp = photo()
    taken = blurred(sharp, 3.0)
    right, small, large = (
        psnr(inner(deconvolve(taken, flat(taken, radius), name)), inner(sharp))
        for radius in (3.0, 2.0, 4.5)
    )
    assert right > max(small, large) + 0.5


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_in_focus_stays_exactly_as_it_is(name: str) -> None:
    taken = blurred(photo(), 2.0)
    radius = flat(taken, 2.0)
    radius[:, :100] = 0.5
    radius[:80, :100] = 0
    made = deconvolve(taken, radius, name)
    np.testing.assert_array_equal(made[:, :100], taken[:, :100])
    assert (made[:, 110:] != taken[:, 110:]).mean() > 0.9
    np.testing.assert_array_equal(deconvolve(taken, flat(taken, 0), name), taken)


@pytest.mark.parametrize("name", BASELINES)
def test_between_two_rungs_a_pixel_is_mixed_of_both(name: str) -> None:
    taken = blurred(photo(), 2.0)
    two, three, between = (
        to_linear(deconvolve(taken, flat(taken, radius), name)) for radius in (2.0, 2.5, 2.25)
    )
    free = (two > 0) & (two < 1) & (three > 0) & (three < 1)  # not clipped
    assert free.mean() > 0.8
    np.testing.assert_allclose(between[free], (two + three)[free] / 2, atol=2e-6)


@pytest.mark.parametrize("name", BASELINES)
def test_a_growing_radius_leaves_no_steps(name: str) -> None:
    """A grey ramp is one under any disc: nothing to restore, and so nothing may show."""
    ramp = np.tile(np.linspace(0.2, 0.8, 128, dtype=np.float32), (96, 1))
    image = to_srgb(np.dstack((ramp, ramp, ramp)))
    radius = np.tile(np.linspace(0, 6, 128, dtype=np.float32), (96, 1))
    made = to_linear(deconvolve(image, radius, name))
    np.testing.assert_allclose(made[:, 24:-24], to_linear(image)[:, 24:-24], atol=4e-3)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("radius", [2.0, 6.0])
def test_brightness_stays_and_borders_do_not_ring(name: str, radius: float) -> None:
    """Where a picture is one colour up to its border, it stays that colour there."""
    grey = np.full((48, 70, 3), (0.1, 0.4, 0.9), np.float32)
    made = METHODS[name](grey, LENS.kernel(radius), DEFAULT)
    np.testing.assert_allclose(made, grey, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_borders_are_no_worse_than_the_middle(name: str) -> None:
    """What blurs in from beyond the border is unknown there: it may cost, but not spoil."""
    scene = photo()
    taken, sharp = (image[24:-24, 24:-24] for image in (blurred(scene, 3.0), scene))
    made = deconvolve(taken, flat(taken, 3.0), name)
    edge = np.ones(taken.shape[:2], bool)
    edge[8:-8, 8:-8] = False
    before, after = (np.abs(image - sharp)[edge] for image in (taken, made))
    assert psnr(made[edge], sharp[edge]) > psnr(taken[edge], sharp[edge]) + 0.5
    assert after.max() < before.max() + 0.05


def test_wiener_is_the_inverse_without_noise() -> None:
    """Convolved on its mirror image, and undone with next to no balance, a picture comes back."""
    sharp = np.random.default_rng(0).random((40, 52, 3), dtype=np.float32)
    kernel = LENS.kernel(1.0)
    soft = cv2.filter2D(sharp, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT)
    made = wiener(soft, kernel, Config(balance=1e-9))
    np.testing.assert_allclose(made, sharp, atol=2e-3)
    assert np.abs(soft - sharp).max() > 0.2


def test_richardson_lucy_is_scikit_images_away_from_the_border() -> None:
    restoration = pytest.importorskip("skimage.restoration", reason="compares with scikit-image")
    linear, kernel = to_linear(blurred(photo(), 2.0)), LENS.kernel(2.0)
    ours = richardson_lucy(linear, kernel, Config(iterations=8))
    theirs = [
        restoration.richardson_lucy(plane, kernel, 8, clip=False) for plane in cv2.split(linear)
    ]
    np.testing.assert_allclose(inner(ours, 40), inner(np.dstack(theirs), 40), atol=2e-5)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (1, 40)])
def test_pictures_smaller_than_the_blur(name: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((*shape, 3), dtype=np.float32)
    made = deconvolve(image, np.full(shape, 8, np.float32), name)
    assert made.shape == image.shape
    assert np.isfinite(made).all()


def test_black_stays_black() -> None:
    black = np.zeros((24, 32, 3), np.float32)
    for name in BASELINES:
        np.testing.assert_array_equal(deconvolve(black, flat(black, 3.0), name), black)


GOOD = np.zeros((4, 6, 3), np.float32)
MAP = np.ones((4, 6), np.float32)


@pytest.mark.parametrize(
    ("image", "radius", "text"),
    [
        (GOOD.astype(np.uint8), MAP, r"expected float32 \[H, W, 3\], got uint8"),
        (GOOD[..., 0], MAP, r"expected float32 \[H, W, 3\], got float32 \(4, 6\)"),
        (GOOD[:0], MAP[:0], r"expected float32 \[H, W, 3\]"),
        (GOOD, MAP.T, r"\[4, 6\], got \[6, 4\]: resize it"),
        (GOOD, -MAP, "expected pixels from 0 to 64, got -1 to -1"),
        (GOOD, 255 * MAP, "got 255 to 255"),
        (GOOD, np.nan * MAP, "got nan to nan"),
    ],
)
def test_what_cannot_be_deconvolved_says_why(image: Image, radius: Image, text: str) -> None:
    with pytest.raises(InputError, match=text):
        deconvolve(image, radius, "wiener")


def test_an_unknown_method_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'wiener'"):
        deconvolve(GOOD, MAP, "weiner")


@pytest.mark.parametrize("wrong", [{"step": 0}, {"balance": -1}, {"iterations": 0}, {"sharp": -1}])
def test_a_config_that_cannot_work_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Config(**wrong)  # type: ignore[arg-type]
