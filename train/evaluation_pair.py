"""A picture that models are judged on, with its truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.spec import Size
from allfocus.train.evaluation_set import IN_FOCUS

Frame = NDArray[np.uint8]  # [H, W, 3], RGB
Radii = NDArray[np.float32]  # [H, W], pixels


@dataclass(frozen=True)
class Pair:
    """A blurry picture and its truth, uint8 RGB [H, W, 3]; blur radii [H, W] in pixels.

    `radius` is that of what is front-most, as maps have it. `seen` is the mean radius of what a
    pixel's light comes from: it differs where something blurred in front spills over what is in
    focus behind it. Where a data set has no maps, both are None; a folder has no `seen` of its own.
    Data sets for detection have no `sharp`, and masks instead of radii: `radius` is None, `seen` 0
    in focus and infinite elsewhere. `left` and `right` are the views of a dual-pixel sensor, of the
    kind of `blurry`; None where they were not asked for, or a data set has none.
    """

    name: str
    blurry: Frame
    sharp: Frame | None
    radius: Radii | None
    seen: Radii | None
    left: Frame | None = None
    right: Frame | None = None

    @property
    def in_focus(self) -> NDArray[np.bool_] | None:
        """[H, W]: where the blur radius that is seen is under half a pixel."""
        return None if self.seen is None else self.seen < IN_FOCUS

    def cut(self, size: Size) -> Pair:
        """The middle of the picture, of at most `size`."""
        height, width = self.blurry.shape[:2]
        top, left = max(0, (height - size.height) // 2), max(0, (width - size.width) // 2)
        part = (slice(top, top + size.height), slice(left, left + size.width))
        radius, seen = (None if m is None else m[part] for m in (self.radius, self.seen))
        sharp, left, right = (
            None if p is None else p[part] for p in (self.sharp, self.left, self.right)
        )
        return Pair(self.name, self.blurry[part], sharp, radius, seen, left, right)
