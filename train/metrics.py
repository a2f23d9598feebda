"""How good a picture is, with the exact definition of each figure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def psnr(image: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Peak signal-to-noise ratio in dB for values in [0, 1]: -10 log10 of the mean squared error.

    The mean runs over all pixels and channels. Equal pictures give infinity.
    """
    if image.shape != truth.shape:
        raise ValueError(f"shapes differ: {image.shape} and {truth.shape}")
    error = float(np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)
