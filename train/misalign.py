"""Pictures of one scene that do not lie over one another: shifted, zoomed, and locally displaced.

Two shots, one with the lens open and one stopped down, never match to the pixel: the tripod gives
way, the lens breathes, leaves move. JDRL (Li et al., AAAI 2023) is for training with such pairs.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from allfocus.train.camera import Image

_CELLS = 4  # the smooth flow has so many independent values along a side


def draw_flow(
    rng: np.random.Generator, side: int, *, shift: float, zoom: float, flow: float
) -> Image:
    """Where each pixel comes from: offsets (x, y) [side, side, 2] in pixels.

    `shift` (pixels) and `zoom` (a share: 0.01 is 1 %) are the most that the whole picture moves,
    `flow` the root mean square of what each place moves besides.
    """
    angle, length = rng.uniform(0, 2 * math.pi), shift * math.sqrt(rng.random())
    y, x = np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2
    scale = rng.uniform(-zoom, zoom)
    cells = rng.standard_normal((_CELLS, _CELLS, 2)).astype(np.float32)
    smooth = cv2.resize(cells, (side, side), interpolation=cv2.INTER_CUBIC)
    smooth = smooth * (flow / max(float(np.sqrt((smooth**2).sum(axis=2).mean())), 1e-6))
    whole = np.stack((math.cos(angle) * length + scale * x, math.sin(angle) * length + scale * y))
    return np.asarray(whole.transpose(1, 2, 0) + smooth, np.float32)


def warp(image: Image, flow: Image) -> Image:
    """`image` [H, W, C] with each pixel taken from its place plus `flow` [H, W, 2] pixels."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warped = cv2.remap(
        image,
        x + flow[..., 0],
        y + flow[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return warped.astype(np.float32, copy=False)
