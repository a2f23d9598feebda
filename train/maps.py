"""Defocus maps of blurry/sharp pairs: Ma et al., DID-ANet, TIP 2021, section III-D, eq. 8 and 9.

The radius at a pixel is that of the blur which, laid on the sharp picture, comes nearest to the
blurry one in a window around it. Where the sharp picture is flat, all blurs do; there the map is
carried in from confident places, guided by the sharp picture. (The paper guides by a depth map,
which users have not, and by Laplacian matting; here it is a guided filter with weights.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.pictures.radius import WIDEST
from allfocus.train.camera import Image, to_linear
from allfocus.train.psf import Aperture, Kernel
from allfocus.train.render import convolve

_FLAT = 1e-6  # of linear light, squared: differences between blurs below this are noise
_SMOOTH = 1e-3  # the guided filter's epsilon, of sRGB codes, squared
_ENOUGH = 0.05  # mean confidence of a window that a value is taken from
_FINE = 2.0  # pixels of radius, under which twice as many are tried

Radii = NDArray[np.float64]
Places = NDArray[np.intp]  # in what is tried


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which blurs are tried. Radii and `window` (L of eq. 8) in pixels.

    Radii are a `step` apart, under 2 pixels half a step.
    """

    max_radius: float = 12.0
    step: float = 0.5
    window: int = 11
    aperture: Aperture = field(default_factory=Aperture)

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise ValueError(f"step: expected more than 0 up to 1 pixel, got {self.step}")
        if not self.step <= self.max_radius <= WIDEST:  # no map may hold more
            raise ValueError(
                f"max_radius: expected {self.step:g} to {WIDEST:g} pixels, got {self.max_radius:g}"
            )
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"window: expected an odd number from 3 on, got {self.window}")


def estimate(blurry: Image, sharp: Image, search: Search) -> tuple[Image, Image]:
    """Blur radius in pixels and confidence in [0, 1], [H, W] each, of sRGB pictures [H, W, 3]."""
    first, confidence = best_radius(_light(blurry), _light(sharp), search)
    guide = sharp.mean(axis=2).astype(np.float32)
    return propagate(first, confidence, guide, search.window), confidence


def best_radius(blurry: Image, sharp: Image, search: Search) -> tuple[Image, Image]:
    """Eq. 8 and 9 on luminance [H, W] in linear light: radius in pixels, and confidence.

    Between three tried blurs a parabola through the errors decides, over how far each spreads
    light: over the radius itself errors are no parabola where blur is small. Confidence: how much
    worse the radii a pixel off explain the picture, against what noise makes of it.
    """
    radii, kernels = _tried(search)
    size = (search.window, search.window)
    errors: Image = np.stack(
        [cv2.boxFilter((blurry - convolve(sharp, kernel)) ** 2, -1, size) for kernel in kernels]
    )
    best = errors.argmin(axis=0)
    spread = np.array([_spread(kernel) for kernel in kernels])
    found = np.interp(np.sqrt(_lowest(errors, best, spread)), np.sqrt(spread), radii)
    here = _at(errors, best, np.arange(len(radii)))
    off = np.minimum(*(_at(errors, best, _off(radii, pixels)) for pixels in (-1.0, 1.0)))
    sure = (off - here) / (off + here + _FLAT)
    return found.astype(np.float32), np.clip(sure, 0, 1).astype(np.float32)


def _tried(search: Search) -> tuple[Radii, list[Kernel]]:
    """The radii, twice as dense where blur is small, and their kernels. Of equal blurs, such as
    those under 0.6 pixels, which change nothing, the first is left: they cannot be told apart."""
    half, fine = search.step / 2, min(_FINE, search.max_radius)
    radii = np.concatenate(
        (np.arange(0, fine, half), np.arange(fine, search.max_radius + half, search.step))
    )
    kernels = [search.aperture.kernel(radius) for radius in radii]
    widest = np.maximum.accumulate([-1.0, *(_spread(kernel) for kernel in kernels)])
    kept = np.flatnonzero(np.diff(widest) > 0)
    return radii[kept], [kernels[i] for i in kept]


def _spread(kernel: Kernel) -> float:
    """The variance of where a kernel [K, K] lays light, in pixels squared."""
    steps = np.arange(len(kernel)) - len(kernel) // 2
    squared = steps[:, None] ** 2 + steps**2
    return float((kernel * squared).sum())


def _lowest(errors: Image, best: Places, spread: Radii) -> Radii:
    """Where the parabola through the errors at `best` and next to it is lowest, [H, W]."""
    if len(spread) < 3:
        return spread[best]
    middle = np.clip(best, 1, len(spread) - 2)
    (x0, e0), (x1, e1), (x2, e2) = (
        (spread[middle + k], np.take_along_axis(errors, (middle + k)[None], 0)[0].astype(float))
        for k in (-1, 0, 1)
    )
    slope, next_slope = (e1 - e0) / (x1 - x0), (e2 - e1) / (x2 - x1)
    bend = (next_slope - slope) / (x2 - x0)
    inside = (best == middle) & (bend > 0)
    low = (x0 + x1) / 2 - slope / (2 * np.where(inside, bend, 1.0))
    kept: Radii = np.where(inside, np.clip(low, (x0 + x1) / 2, (x1 + x2) / 2), spread[best])
    return kept


def _off(radii: Radii, pixels: float) -> Places:
    """For each radius the place of the one nearest to `pixels` more; beyond an end as many less."""
    wanted = radii + pixels
    outside = (wanted < 0) | (wanted > radii[-1])
    wanted = np.where(outside, radii - pixels, wanted)
    nearest: Places = np.abs(radii[:, None] - wanted).argmin(axis=0)
    return nearest


def propagate(radius: Image, confidence: Image, guide: Image, window: int) -> Image:
    """Confident radii carried over [H, W], along what looks alike in `guide`.

    A weighted guided filter in windows that double until enough in them is confident.
    """
    out, done = np.zeros_like(radius), np.zeros(radius.shape, bool)
    side = window
    while not done.all():
        last = side > 2 * max(radius.shape)
        value, mass = _guided(radius, confidence**2, guide, side)
        usable = ~done & ((mass >= _ENOUGH**2) | last)
        out[usable] = value[usable]
        done |= usable
        side = 2 * side + 1
    return np.asarray(np.clip(out, 0, radius.max()), np.float32)


def _guided(value: Image, weight: Image, guide: Image, side: int) -> tuple[Image, Image]:
    """He et al.'s guided filter, each pixel counting by its weight; and the mean weight."""

    def mean(image: Image) -> Image:
        return np.asarray(cv2.boxFilter(image, -1, (side, side)), np.float32)

    mass = mean(weight)
    safe = np.maximum(mass, np.float32(1e-12))
    centre, level = mean(weight * guide) / safe, mean(weight * value) / safe
    spread = np.maximum(mean(weight * guide**2) / safe - centre**2, 0)
    joint = mean(weight * guide * value) / safe - centre * level
    slope: Image = np.asarray(joint / (spread + _SMOOTH), np.float32)
    start: Image = np.asarray(level - slope * centre, np.float32)
    total = mean(np.asarray(safe, np.float32))
    smooth = (mean(mass * slope) * guide + mean(mass * start)) / total
    return np.asarray(smooth, np.float32), mass


def _at(errors: Image, best: Places, others: Places) -> Image:
    """The errors at the place that `others` has for each of `best`."""
    return np.asarray(np.take_along_axis(errors, others[best][None], 0)[0], np.float32)


def _light(code: Image) -> Image:
    return np.asarray(to_linear(code).mean(axis=2), np.float32)
