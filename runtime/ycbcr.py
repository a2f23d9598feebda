"""Luma and chroma of R'G'B': the coefficients of ITU-R BT.601, BT.709 and BT.2020, in samples.

Limited range has black at 16 and white at 235 of 8 bits, full range at 0 and 255; chroma's zero is
in the middle of both. With more bits, limited range is the same times a power of two.
"""

from __future__ import annotations

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.spec import Matrix, Range

P010_STEP = 64  # a level of 10 bits stands in the high ones of 16

_WEIGHTS: dict[Matrix, tuple[float, float]] = {  # of red and blue
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
}


def from_rgb(matrix: Matrix, limits: Range, bits: int) -> Array:
    """From a difference in R'G'B' of [0, 1] to one in samples: [3, 3], rows Y', Cb, Cr."""
    red, blue = _WEIGHTS[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    rows = np.stack(
        [
            luma,
            (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - blue)),
            (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - red)),
        ]
    )
    spans = np.full(3, (1 << bits) - 1.0)
    if limits == "limited":
        spans = np.array([219.0, 224.0, 224.0]) * (1 << (bits - 8))
    return np.asarray(rows * spans[:, None])


def black(limits: Range, bits: int) -> Array:
    """The samples Y', Cb, Cr of black: [3]."""
    luma = 16.0 if limits == "limited" else 0.0
    return np.array([luma, 128.0, 128.0]) * (1 << (bits - 8))
