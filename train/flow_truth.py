"""The truth, deformed to the output: what a misaligned pair of pictures is judged by.

JDRL (Li et al., AAAI 2023) computes the flow between its output and the sharp picture, and warps
the sharp picture onto the output before it measures. It takes PWC-Net's flow; here it is DIS
(Kroeger et al., ECCV 2016), which comes with OpenCV and needs no weights.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.train import dense_flow

Picture = NDArray[np.float32]  # [H, W, 3], RGB in [0, 1]


def deformed(truth: Picture, output: Picture) -> Picture:
    """`truth` [H, W, 3] warped onto `output`: at each pixel, what the flow finds there in `truth`.

    The flow goes from `output` to `truth`, DIS at its medium preset on 8-bit luminance; the warp is
    bilinear, and beyond the border is the border's pixel. Figures against it lie over those against
    the truth itself even for aligned pairs, as what is wrong in shape is forgiven: compare them
    only with figures that were made in the same way. Raises InputError under 16x16 pixels.
    """
    height, width = truth.shape[:2]
    flow = dense_flow.search(_luminance(output), _luminance(truth))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warped = cv2.remap(
        np.ascontiguousarray(truth, np.float32),
        x + flow[..., 0],
        y + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(warped, np.float32)


def _luminance(image: Picture) -> NDArray[np.uint8]:
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(levels, cv2.COLOR_RGB2GRAY), np.uint8)
