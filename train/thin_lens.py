"""How far out of focus a thin lens draws what lies at a depth: the radius of its disc in pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_Values = NDArray[np.float64]
# A full-frame sensor is 36 mm wide: 4 µm a pixel is that at 9000 pixels, 90 µm reduced to 400.
_PITCH = (4.0, 90.0)


@dataclass(frozen=True, kw_only=True)
class ThinLens:
    """A lens, where it is focused, and the pixels its picture is read with."""

    focal_length: float  # millimetres
    f_number: float  # focal length over the opening's diameter
    focus: float  # metres from the lens to what is in focus
    pixel: float  # micrometres from one pixel of the picture to the next, on the sensor

    def __post_init__(self) -> None:
        for name in ("focal_length", "f_number", "focus", "pixel"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if self.focus <= self.focal_length / 1000:
            raise ValueError(
                f"focus: expected more than the focal length of {self.focal_length} mm, got "
                f"{self.focus} m; nothing nearer can be in focus"
            )

    @property
    def strength(self) -> float:
        """Pixels of radius for each 1/metre between a thing's inverse depth and the focus's."""
        focal = self.focal_length / 1000
        opening = focal / self.f_number
        return opening * focal * self.focus / (self.focus - focal) / 2 / (self.pixel * 1e-6)

    def radius(self, depth: _Values | float) -> _Values:
        """Radius in pixels of the circle of confusion at `depth` metres from the lens.

        Signed: above 0 behind the focus, below 0 in front. The circle's diameter on the sensor is
        A |d - s| / d · f / (s - f), of the opening A = f / N, focal length f, focus s, depth d. In
        1/d it is linear; so is a slanted plane's 1/d in the picture, and therefore its radius.
        """
        distance = np.asarray(depth, np.float64)
        if not (distance > 0).all():
            raise ValueError(f"depth: expected metres, more than 0, got {distance.min()}")
        return np.asarray(self.strength * (1 / self.focus - 1 / distance))


def random_planes(rng: np.random.Generator, count: int, largest: float) -> tuple[float, ...]:
    """Radii in pixels, signed, of `count` planes, back to front, that one random lens sees.

    Half of the time one of them is in focus. The picture is reduced, or the lens stopped down,
    until the largest radius is `largest`; it is less where even 4 µm pixels do not reach that.
    """
    lens = ThinLens(
        focal_length=float(24 * (200 / 24) ** rng.random()),
        f_number=float(1.2 * (11 / 1.2) ** rng.random()),
        focus=float(0.4 * 50 ** rng.random()),
        pixel=_PITCH[0],
    )
    nearest, farthest = max(0.25, lens.focus / 4), lens.focus * 8
    depths = nearest * (farthest / nearest) ** np.sort(rng.random(count))[::-1]
    if rng.random() < 0.5:
        lens = replace(lens, focus=float(max(rng.choice(depths), 0.25)))
    fitted = _fit(lens, float(np.abs(lens.radius(depths)).max()), largest)
    return tuple(float(r) for r in fitted.radius(depths))


def _fit(lens: ThinLens, widest: float, largest: float) -> ThinLens:
    """The lens with larger pixels, and where that is not enough a smaller opening."""
    if widest <= largest:
        return lens
    pixel = min(_PITCH[1], lens.pixel * widest / largest)
    rest = widest * lens.pixel / pixel / largest
    return replace(lens, pixel=pixel, f_number=lens.f_number * max(1.0, rest))
