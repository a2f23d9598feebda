"""How much sharper a picture became, apart for what was in focus and what was not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # [H, W, 3], BGR
RADII = (0.5, 2.0)  # pixels of blur radius: in focus below the first, clearly blurred from the last


@dataclass(frozen=True, kw_only=True)
class Band:
    """The pixels whose estimated blur radius is at least `low` and under `high` pixels."""

    low: float
    high: float
    share: float  # of all pixels
    gain: float  # mean squared gradient of the luminance, after / before
    psnr_db: float  # of the result against the input: how little was changed; inf where nothing


def by_blur(before: Frame, after: Frame, defocus: NDArray[np.float32]) -> list[Band]:
    """A Band for each range of blur that occurs in `defocus` [H, W], in pixels."""
    energy = [gradient_energy(image) for image in (before, after)]
    error = (before.astype(np.float64) - after) ** 2
    edges = (0.0, *RADII, math.inf)
    bands = []
    for low, high in pairwise(edges):
        inside = (np.maximum(defocus, 0) >= low) & (np.maximum(defocus, 0) < high)
        if inside.any():
            old, new = (float(values[inside].mean()) for values in energy)
            bands.append(
                Band(
                    low=low,
                    high=high,
                    share=float(inside.mean()),
                    gain=new / old if old else math.nan,
                    psnr_db=_psnr(float(error[inside].mean())),
                )
            )
    return bands


def gradient_energy(image: Frame) -> NDArray[np.float64]:
    """The squared gradient of the luminance at each pixel, [H, W], for values in [0, 1]."""
    luminance = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float64) / 255
    down, right = np.gradient(luminance)
    return np.asarray(down**2 + right**2)


def _psnr(square: float) -> float:
    return math.inf if square == 0 else 10 * math.log10(255**2 / square)
