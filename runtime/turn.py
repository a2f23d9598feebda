"""The eight ways to lay a picture: turned by quarters, mirrored or not."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.spec import Size

_CODES = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)


@dataclass(frozen=True)
class Turn:
    """Counterclockwise by `quarters`, 0 to 3, of a full turn; then, where `mirrored`, sideways."""

    quarters: int = 0
    mirrored: bool = False

    @property
    def inverse(self) -> Turn:
        """What lays it back. A mirrored turn is its own inverse."""
        return self if self.mirrored else Turn(-self.quarters % 4)

    def of_size(self, size: Size) -> Size:
        """That of a picture of `size`, laid so."""
        return Size(size.height, size.width) if self.quarters % 2 else size

    def of(self, pixels: Array) -> Array:
        """A matrix [H, W] or [H, W, C], C up to 4, laid so; itself where nothing is to be done."""
        if self.quarters:
            pixels = np.asarray(cv2.rotate(pixels, _CODES[self.quarters - 1]))
        return np.asarray(cv2.flip(pixels, 1)) if self.mirrored else pixels
