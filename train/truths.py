"""Whether the sharp pictures of a data set are the sharper ones: folders are easily exchanged."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # [H, W, 3]
_CLEARLY = 1.05  # times the detail of the other: less may be noise


class Truths:
    """Counts the pairs whose pictures are the same, and those whose blurry one has more detail."""

    def __init__(self) -> None:
        self.pairs = self.same = self.softer = 0

    def add(self, blurry: Frame, sharp: Frame) -> None:
        """Take in a pair of pictures of one size."""
        self.pairs += 1
        if np.array_equal(blurry, sharp):
            self.same += 1
        elif _detail(blurry) > _CLEARLY * _detail(sharp):
            self.softer += 1

    def problems(self, name: str) -> list[str]:
        """What is wrong with the part `name`. A few such pairs may be meant, or show little but
        what is in focus; most of them are a mistake.
        """
        if 2 * self.same > self.pairs:
            return [
                f"{name}: {self.same} of {self.pairs} sharp pictures are their blurry ones, to the "
                "pixel; expected the sharp ones"
            ]
        if 2 * self.softer > self.pairs:
            return [
                f"{name}: {self.softer} of {self.pairs} sharp pictures are softer than their "
                "blurry ones; are the folders exchanged?"
            ]
        return []


def _detail(picture: Frame) -> float:
    """Mean absolute Laplacian at half the size, where noise counts less."""
    height, width = picture.shape[:2]
    half = (max(1, width // 2), max(1, height // 2))
    small = cv2.resize(picture[..., 1], half, interpolation=cv2.INTER_AREA)
    return float(np.abs(cv2.Laplacian(small, cv2.CV_32F)).mean())
