"""Squared errors by blur radius, summed over all pixels of all pictures, none of which is kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allfocus.train.metrics import decibel

Real = NDArray[np.float32]  # [H, W, 3] or [H, W]
EDGES = (0.0, 0.5, 2.0, 4.0, 8.0)  # pixels of blur radius; the last band has no upper end
HIGHEST_PSNR = 99.0  # dB, of equal pixels: JSON has no infinity


@dataclass(frozen=True)
class Band:
    """All pixels with a blur radius in [low, high) pixels, taken together.

    `psnr_db`, of each kind of error, is at most 99, and None where no pixel is, or a picture lacked
    that error.
    """

    low: float
    high: float | None  # None: no upper end
    pixels: int
    share: float  # of all pixels
    psnr_db: tuple[float | None, ...]


class SquaresByRadius:
    """The sums for `kinds` errors, such as those of the input and of the output."""

    def __init__(self, kinds: int) -> None:
        self._pixels = np.zeros(len(EDGES), np.int64)
        self._squares = np.zeros((kinds, len(EDGES)))
        self._complete = True

    def add(self, radius: Real, pairs: Sequence[tuple[Real, Real]]) -> None:
        """Count one picture: its blur radius [H, W] in pixels, which may be infinite, and of each
        kind of error two pictures [H, W, 3] in [0, 1]; no pairs where it has none.
        """
        band = np.searchsorted(EDGES, radius.ravel(), side="right") - 1
        self._pixels += np.bincount(band, minlength=len(EDGES))
        if not pairs:
            self._complete = False
            return
        for row, (image, other) in zip(self._squares, pairs, strict=True):
            square = (image.astype(np.float64) - other) ** 2
            row += np.bincount(band, square.mean(axis=2).ravel(), minlength=len(EDGES))

    def each(self) -> tuple[Band, ...]:
        """The bands of EDGES."""
        ends = itertools.pairwise((*EDGES, None))
        return tuple(
            self._band(low or 0.0, high, slice(i, i + 1)) for i, (low, high) in enumerate(ends)
        )

    def whole(self) -> Band:
        """All bands together."""
        return self._band(0.0, None, slice(None))

    def _band(self, low: float, high: float | None, part: slice) -> Band:
        pixels = int(self._pixels[part].sum())
        share = pixels / max(1, int(self._pixels.sum()))
        known = pixels > 0 and self._complete
        found = (
            min(HIGHEST_PSNR, decibel(float(row[part].sum()) / pixels)) if known else None
            for row in self._squares
        )
        return Band(low, high, pixels, share, tuple(found))
