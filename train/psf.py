"""Point spread functions of an out-of-focus lens, as kernels that sum to one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kernel = NDArray[np.float32]
_Grid = NDArray[np.float64]
Shape = Literal["disc", "soft", "polygon", "ring", "gaussian", "butterworth"]
CLASSIC: tuple[Shape, ...] = ("disc", "soft", "polygon", "ring", "gaussian")
SHAPES: tuple[Shape, ...] = (*CLASSIC, "butterworth")
_SAMPLES = 5  # each pixel is sampled at 5x5 points, so that radii between pixels differ


@dataclass(frozen=True, kw_only=True)
class Aperture:
    """A lens's opening: the shape of its blur, of whatever radius.

    disc: an ideal lens wide open. soft: light fades out from 1 - `softness` to 1 + `softness` radii
    (spherical aberration).
    polygon: a stopped-down iris of `blades` blades, turned by `angle` radians, of the disc's area.
    ring: at the edge 1 + 2 `softness` times as bright as in
    the middle (over-corrected lens). gaussian: of the standard
    deviation of a disc of the same radius, radius / 2; what many papers blur with. butterworth:
    a disc dimmed in the middle by a high-pass of cut-off `softness`, in radii (see `butterworth`).
    """

    shape: Shape = "disc"
    softness: float = 0.3
    blades: int = 6
    angle: float = 0.0

    @property
    def same_turned(self) -> bool:
        """Whether half a turn leaves it as it is: all but polygons of odd `blades`."""
        return self.shape != "polygon" or self.blades % 2 == 0

    def reach(self, radius: float) -> int:
        """Pixels from the kernel's centre to its edge."""
        factor = {
            "gaussian": 1.5,
            "butterworth": 1.2,
            "soft": 1.0 + self.softness,
            "polygon": 1.3,
        }.get(self.shape, 1.0)
        return math.ceil(factor * radius)

    def kernel(self, radius: float) -> Kernel:
        """The blur kernel [K, K] of `radius` pixels, K odd; its sum is 1. Radius 0 is one pixel.

        It has a pixel's own width besides: a disc of 1 pixel spreads light as one of 1.3 would, one
        of 1.5 nearly as it says, and under half a pixel nothing is blurred.
        """
        if radius < 0 or not math.isfinite(radius):
            raise ValueError(f"radius: expected pixels, at least 0, got {radius}")
        if self.shape == "butterworth":
            return butterworth(radius, cutoff=self.softness).astype(np.float32)
        reach = self.reach(radius)
        steps = (np.arange((2 * reach + 1) * _SAMPLES) + 0.5) / _SAMPLES - (reach + 0.5)
        x, y = np.meshgrid(steps, steps)
        fine = _PROFILES[self.shape](self, x, y, max(radius, 1e-3))
        side = 2 * reach + 1
        coarse = fine.reshape(side, _SAMPLES, side, _SAMPLES).sum(axis=(1, 3))
        total = coarse.sum()
        if total <= 0:  # smaller than the sampling grid: all of it is in the middle pixel
            coarse[reach, reach] = total = 1.0
        kernel: Kernel = (coarse / total).astype(np.float32)
        return kernel

    def half(self, radius: float, *, left: bool) -> Kernel:
        """The blur [K, K] that one half of the lens makes, its sum 1: a dual-pixel view's.

        `left` keeps what is left of the upright line that halves the kernel's light: its middle,
        or, for a polygon of odd `blades`, nearly. The two halves' mean is `kernel(radius)`.
        """
        whole = self.kernel(radius)
        share = 2 * _left_of_the_median(whole)
        half: Kernel = whole * (share if left else 2 - share).astype(np.float32)
        return half


def _left_of_the_median(kernel: Kernel) -> _Grid:
    """Of each column [K], the share that is left of the line that halves the kernel's sum."""
    columns = kernel.sum(axis=0, dtype=np.float64)
    before = np.cumsum(columns) - columns
    share: _Grid = (columns.sum() / 2 - before) / np.maximum(columns, 1e-12)  # empty ones: 0 or 1
    return share.clip(0, 1)


def butterworth(
    radius: float, *, cutoff: float = 0.4, order: int = 3, smoothing: float = 0.1
) -> _Grid:
    """A lens's blur that is brighter towards its edge, [K, K], K odd, its sum 1.

    Zhai et al., "Learnable Blur Kernel for Single-Image Defocus Deblurring in the Wild", AAAI 2023,
    equation 3: a Butterworth high-pass filter on a disc of `radius` pixels, smoothed by a Gaussian.
    `cutoff` (D0, where the filter is 1/2) and `smoothing` (the standard deviation) are in radii.
    """
    reach = math.ceil(radius * (1 + 2 * smoothing))
    side = 2 * reach + 1
    steps = np.arange(side * _SAMPLES) - side * _SAMPLES // 2  # whole: both sides are the same
    distance = np.hypot(*np.meshgrid(steps, steps)) / _SAMPLES
    with np.errstate(divide="ignore", invalid="ignore"):  # in the middle the filter is 0
        ratio = cutoff * radius / distance
    fine = (distance <= radius) / (1 + ratio ** (2 * order))
    kernel = np.nan_to_num(fine).reshape(side, _SAMPLES, side, _SAMPLES).sum(axis=(1, 3))
    if kernel.sum() <= 0:  # smaller than the sampling grid: all of it is in the middle pixel
        kernel[reach, reach] = 1.0
        return np.asarray(kernel, np.float64)
    smooth = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (smoothing * radius)) ** 2)
    for axis in (0, 1):
        kernel = np.apply_along_axis(np.convolve, axis, kernel, smooth, mode="same")
    normalised: _Grid = kernel / kernel.sum()
    return normalised


def random_aperture(rng: np.random.Generator, shapes: tuple[Shape, ...] = CLASSIC) -> Aperture:
    """An aperture drawn at random: what a training crop was 'photographed' with."""
    return Aperture(
        shape=shapes[int(rng.integers(len(shapes)))],
        softness=float(rng.uniform(0.1, 0.5)),
        blades=int(rng.integers(5, 10)),
        angle=float(rng.uniform(0, 2 * math.pi)),
    )


def _disc(_: Aperture, x: _Grid, y: _Grid, radius: float) -> _Grid:
    return (np.hypot(x, y) <= radius).astype(np.float64)


def _soft(lens: Aperture, x: _Grid, y: _Grid, radius: float) -> _Grid:
    low, high = radius * (1 - lens.softness), radius * (1 + lens.softness)
    return np.clip((high - np.hypot(x, y)) / (high - low), 0, 1)


def _polygon(lens: Aperture, x: _Grid, y: _Grid, radius: float) -> _Grid:
    # The apothem of the regular polygon whose area is the disc's.
    apothem = radius * math.sqrt(math.pi / (lens.blades * math.tan(math.pi / lens.blades)))
    inside = np.ones_like(x)
    for blade in range(lens.blades):
        angle = lens.angle + 2 * math.pi * blade / lens.blades
        inside *= x * math.cos(angle) + y * math.sin(angle) <= apothem
    return inside


def _ring(lens: Aperture, x: _Grid, y: _Grid, radius: float) -> _Grid:
    edge = (np.hypot(x, y) / radius) ** 2
    return _disc(lens, x, y, radius) * (1 + 2 * lens.softness * edge)


def _gaussian(_: Aperture, x: _Grid, y: _Grid, radius: float) -> _Grid:
    sigma = radius / 2
    return np.exp(-(x**2 + y**2) / (2 * sigma**2))


_PROFILES: dict[Shape, Callable[[Aperture, _Grid, _Grid, float], _Grid]] = {
    "disc": _disc,
    "soft": _soft,
    "polygon": _polygon,
    "ring": _ring,
    "gaussian": _gaussian,
}
