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

from allfocus.runtime.pictures.radius import WIDEST
from allfocus.train.camera import Image, to_linear
from allfocus.train.psf import Aperture
from allfocus.train.render import convolve

_FLAT = 1e-6  # of linear light, squared: differences between blurs below this are noise
_SMOOTH = 1e-3  # the guided filter's epsilon, of sRGB codes, squared
_ENOUGH = 0.05  # mean confidence of a window that a value is taken from


@dataclass(frozen=True, kw_only=True)
class Search:
    """Which blurs are tried. Radii and `window` (L of eq. 8) in pixels."""

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

    Between two tried radii a parabola through the errors decides. Confidence: how much worse the
    radii a pixel off explain the picture, against what noise makes of it.
    """
    radii = np.arange(0, search.max_radius + search.step / 2, search.step)
    size = (search.window, search.window)
    errors: Image = np.stack(
        [
            cv2.boxFilter((blurry - convolve(sharp, search.aperture.kernel(r))) ** 2, -1, size)
            for r in radii
        ]
    )
    best = errors.argmin(axis=0)
    before, here, after = (
        np.take_along_axis(errors, np.clip(best + k, 0, len(radii) - 1)[None], 0)[0]
        for k in (-1, 0, 1)
    )
    bend = before - 2 * here + after
    inside = (best > 0) & (best < len(radii) - 1) & (bend > 0)
    offset = np.where(inside, 0.5 * (before - after) / np.maximum(bend, 1e-20), 0)
    radius = search.step * (best + np.clip(offset, -0.5, 0.5))
    reach = max(1, round(1 / search.step))
    off = np.minimum(*(_at(errors, best, k) for k in (-reach, reach)))
    sure = (off - here) / (off + here + _FLAT)
    return radius.astype(np.float32), np.clip(sure, 0, 1).astype(np.float32)


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


def _at(errors: Image, best: np.ndarray[tuple[int, ...], np.dtype[np.intp]], step: int) -> Image:
    """The errors `step` tries from the best; beyond the ends, those of the other side."""
    place = best + step
    place = np.where((place < 0) | (place >= len(errors)), best - step, place)
    clipped = np.clip(place, 0, len(errors) - 1)
    return np.asarray(np.take_along_axis(errors, clipped[None], 0)[0], np.float32)


def _light(code: Image) -> Image:
    return np.asarray(to_linear(code).mean(axis=2), np.float32)
