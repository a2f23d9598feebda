"""The flow between two pictures: OpenCV's dense inverse search, DIS (Kroeger et al., ECCV 2016)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError

# pixels: its patches of 8 lie on halves of the pictures. Under that OpenCV gives NaN, or crashes.
LEAST = 16


def search(picture: NDArray[np.uint8], source: NDArray[np.uint8]) -> NDArray[np.float32]:
    """dx, dy in pixels, [H, W, 2]: where in `source` each pixel of `picture` comes from.

    Both are grey, [H, W]. Raises InputError where a side is less than LEAST.
    """
    height, width = picture.shape
    if min(height, width) < LEAST:
        raise InputError(
            f"optical flow needs pictures of at least {LEAST}x{LEAST} pixels, got {width}x{height}"
        )
    start = np.zeros((height, width, 2), np.float32)
    # one for each pair: for small pictures it changes its own settings
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(method.calc(picture, source, start), np.float32)
