"""How good a picture or a map is, with the exact definition of each figure.

Pictures are floating-point [H, W, C] in [0, 1], maps [H, W]. Nothing is cropped, and luminance is
not taken apart: what a figure does to channels and borders stands with it.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError

Values = NDArray[np.floating[Any]]
Exact = NDArray[np.float64]

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels
SSIM_K1, SSIM_K2 = 0.01, 0.03
BETA_SQUARED = 0.3  # of the F-measure: precision counts for more than recall
THRESHOLDS = 255


def psnr(image: Values, truth: Values) -> float:
    """Peak signal-to-noise ratio in dB for values in [0, 1]: -10 log10 of the mean squared error.

    The mean runs over all pixels and channels, borders included. Equal pictures give infinity.
    """
    first, second = _exact(image, truth)
    return decibel(float(np.mean((first - second) ** 2)))


def decibel(square: float) -> float:
    """-10 log10 of a mean squared error; infinity for 0."""
    return math.inf if square == 0 else -10 * math.log10(square)


def mae(image: Values, truth: Values) -> float:
    """Mean absolute error over all pixels and channels, borders included."""
    first, second = _exact(image, truth)
    return float(np.mean(np.abs(first - second)))


def mse(image: Values, truth: Values) -> float:
    """Mean squared error over all pixels and channels, borders included."""
    first, second = _exact(image, truth)
    return float(np.mean((first - second) ** 2))


def ssim(image: Values, truth: Values) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004) of [H, W, C], for a data range of 1.

    A Gaussian window of 11x11 pixels and standard deviation 1.5, K1 = 0.01, K2 = 0.03, variances
    of the population (not of a sample). The mean runs over the pixels whose window lies inside the
    picture, which leaves out 5 at each border, and over the channels, each taken by itself. The
    same as scikit-image's `structural_similarity` with gaussian_weights=True,
    use_sample_covariance=False, data_range=1. Raises InputError under 11x11 pixels.
    """
    first, second = _exact(image, truth)
    if min(first.shape[:2]) < SSIM_WINDOW:
        height, width = first.shape[:2]
        raise InputError(
            f"SSIM needs pictures of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got "
            f"{width}x{height}"
        )
    mean_1, mean_2 = _window(first), _window(second)
    power = _window(first**2) - mean_1**2 + _window(second**2) - mean_2**2
    shared = _window(first * second) - mean_1 * mean_2
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    means = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    return float(np.mean(means * (2 * shared + c2) / (power + c2)))


def _window(image: Exact) -> Exact:
    """Means under the Gaussian window, where it lies inside the picture."""
    half = SSIM_WINDOW // 2
    kernel = cv2.getGaussianKernel(SSIM_WINDOW, SSIM_SIGMA, cv2.CV_64F)
    soft = cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(soft[half:-half, half:-half], np.float64)


class FMeasure:
    """F_max of what is in focus, over all pixels of all pictures that were added.

    A score in [0, 1] is rounded to 8 bits and called in focus where it is over t, for each t of
    0 ... 254. F = (1 + b) P R / (b P + R) with b = beta^2 = 0.3, P the share of true ones among
    the pixels called in focus, and R that of those found among the true ones. F_max is the largest
    of the 255.
    """

    def __init__(self) -> None:
        self._levels = np.zeros((2, 256), np.int64)  # [out of, in focus][level]

    def add(self, score: Values, in_focus: NDArray[np.bool_]) -> None:
        """Count one picture: `score` and `in_focus` are [H, W]."""
        if score.shape != in_focus.shape:
            raise ValueError(f"shapes differ: {score.shape} and {in_focus.shape}")
        levels = np.rint(np.clip(score, 0, 1) * 255).astype(np.intp)
        for row, inside in zip(self._levels, (~in_focus, in_focus), strict=True):
            row += np.bincount(levels[inside], minlength=256)

    @property
    def share(self) -> float:
        """Of all pixels that were added, those that are in focus; 0 before any."""
        return float(self._levels[1].sum() / max(1, self._levels.sum()))

    def maximum(self) -> float | None:
        """F_max; None where no pixel at all is in focus, so that recall has no meaning."""
        if not self._levels[1].sum():
            return None
        above = self._levels[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # [2, t]: levels over t
        wrong, right = above.astype(np.float64)
        # (1 + b) P R / (b P + R), with P = right / (right + wrong) and R = right / true
        below = BETA_SQUARED * self._levels[1].sum() + right + wrong
        return float(np.max((1 + BETA_SQUARED) * right / below))


def _exact(image: Values, truth: Values) -> tuple[Exact, Exact]:
    if image.shape != truth.shape:
        raise ValueError(f"shapes differ: {image.shape} and {truth.shape}")
    return image.astype(np.float64), truth.astype(np.float64)
