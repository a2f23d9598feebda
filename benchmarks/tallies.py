"""What is counted over all pixels of all pictures: errors by blur radius, and what is in focus."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks.candidates import Given, Output
from allfocus.benchmarks.pairs import Pair
from allfocus.benchmarks.quality_schema import HIGHEST_PSNR, Detection, RadiusBand
from allfocus.train import metrics

Real = NDArray[np.float32]  # [H, W, 3] or [H, W]
EDGES = (0.0, 0.5, 2.0, 4.0, 8.0)  # pixels of blur radius; the last band has no upper end
_RANGE = 8.0  # pixels: where focus is told from a radius, for a model that names no max_radius


def real(image: Given) -> Real:
    """uint8 or float32 -> float32, 1 being white."""
    return image if image.dtype == np.float32 else image.astype(np.float32) / np.float32(255)


class Bands:
    """Squared errors against truth and input, summed by blur radius over all pictures."""

    def __init__(self) -> None:
        self._pixels = np.zeros(len(EDGES), np.int64)
        self._squares = np.zeros((2, len(EDGES)))  # [to truth, to input][band]
        self._by_radius = self._has_image = True

    def add(self, pair: Pair, image: Real | None) -> None:
        """Count one picture; `image` is None where none came out, or there is no sharp one."""
        self._by_radius &= pair.seen is not None
        self._has_image &= image is not None
        radius = np.zeros(pair.blurry.shape[:2]) if pair.seen is None else pair.seen
        band = np.searchsorted(EDGES, radius.ravel(), side="right") - 1
        self._pixels += np.bincount(band, minlength=len(EDGES))
        if image is None:
            return
        assert pair.sharp is not None
        for row, other in zip(self._squares, (pair.sharp, pair.blurry), strict=True):
            square = (image.astype(np.float64) - real(other)) ** 2
            row += np.bincount(band, square.mean(axis=2).ravel(), minlength=len(EDGES))

    def each(self) -> tuple[RadiusBand, ...]:
        """The bands of EDGES; none where a picture had no map."""
        if not self._by_radius:
            return ()
        ends = itertools.pairwise((*EDGES, None))
        return tuple(
            self._band(low or 0.0, high, slice(i, i + 1)) for i, (low, high) in enumerate(ends)
        )

    def whole(self) -> RadiusBand:
        """All bands together."""
        return self._band(0.0, None, slice(None))

    def _band(self, low: float, high: float | None, part: slice) -> RadiusBand:
        pixels = int(self._pixels[part].sum())
        truth, unchanged = (
            min(HIGHEST_PSNR, metrics.decibel(float(row[part].sum()) / pixels))
            if pixels and self._has_image
            else None
            for row in self._squares
        )
        share = pixels / max(1, int(self._pixels.sum()))
        return RadiusBand(
            low=low,
            high=high,
            pixels=pixels,
            share=share,
            psnr_db=truth,
            unchanged_db=unchanged,
        )


class Focus:
    """How well is told what is in focus: by a map of focus or, without one, by small radii."""

    def __init__(self) -> None:
        self._measure = metrics.FMeasure()
        self._errors: list[float] = []
        self._complete = True

    def add(self, pair: Pair, output: Output, max_radius: float) -> None:
        """Count one picture; `max_radius` is the model's, 0 where it names none."""
        truth = pair.in_focus
        if truth is not None and output.focus is not None:
            self._measure.add(output.focus, truth)
            self._errors.append(metrics.mae(output.focus, truth.astype(np.float64)))
        elif truth is not None and output.defocus is not None:
            self._measure.add(1 - output.defocus / (max_radius or _RANGE), truth)
        else:
            self._complete = False

    def detection(self) -> Detection | None:
        """The figures; None where a picture had no map, or nothing is in focus."""
        f_max = self._measure.maximum() if self._complete else None
        if f_max is None:
            return None
        return Detection(f_max=f_max, mae=float(np.mean(self._errors)) if self._errors else None)
