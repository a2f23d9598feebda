"""What is counted over all pixels of all pictures: errors by blur radius, and what is in focus."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from allfocus.benchmarks.candidates import Output, real
from allfocus.benchmarks.quality_schema import Detection, FocusUnder, RadiusBand
from allfocus.train import metrics
from allfocus.train.bands import EDGES, Band, Real, SquaresByRadius
from allfocus.train.evaluation_pair import Pair

_RANGE = 8.0  # pixels: where focus is told from a radius, for a model that names no max_radius


class Bands:
    """Squared errors against truth and input, summed by blur radius over all pictures."""

    def __init__(self) -> None:
        self._squares = SquaresByRadius(2)  # to truth, to input
        self._by_radius = True

    def add(self, pair: Pair, image: Real | None) -> None:
        """Count one picture; `image` is None where none came out, or there is no sharp one."""
        self._by_radius &= pair.seen is not None
        shape = pair.blurry.shape[:2]
        radius = np.zeros(shape, np.float32) if pair.seen is None else pair.seen
        pairs: list[tuple[Real, Real]] = []
        if image is not None:
            assert pair.sharp is not None
            pairs = [(image, real(pair.sharp)), (image, real(pair.blurry))]
        self._squares.add(radius, pairs)

    def each(self) -> tuple[RadiusBand, ...]:
        """The bands of `train.bands`; none where a picture had no map."""
        return tuple(map(_row, self._squares.each())) if self._by_radius else ()

    def whole(self) -> RadiusBand:
        """All bands together."""
        return _row(self._squares.whole())


def _row(band: Band) -> RadiusBand:
    truth, unchanged = band.psnr_db
    return RadiusBand(
        low=band.low,
        high=band.high,
        pixels=band.pixels,
        share=band.share,
        psnr_db=truth,
        unchanged_db=unchanged,
    )


class Focus:
    """How well is told what is in focus: by a map of focus or, without one, by small radii.

    Also where the line is drawn at wider radii, those of the bands: people who draw masks mark what
    looks blurred, which half a pixel does not.
    """

    def __init__(self) -> None:
        self._measure = metrics.FMeasure()
        self._wider = {radius: metrics.FMeasure() for radius in EDGES[2:-1]}
        self._errors: list[float] = []
        self._complete = True
        self._by_radius = True

    def add(self, pair: Pair, output: Output, max_radius: float) -> None:
        """Count one picture; `max_radius` is the model's, 0 where it names none."""
        truth, seen = pair.in_focus, pair.seen
        score = output.focus
        if score is None and output.defocus is not None:
            score = 1 - output.defocus / (max_radius or _RANGE)
        if truth is None or seen is None or score is None:
            self._complete = False
            return
        self._measure.add(score, truth)
        if output.focus is not None:
            self._errors.append(metrics.mae(output.focus, truth.astype(np.float64)))
        self._by_radius &= pair.radius is not None
        for radius, measure in self._wider.items():
            measure.add(score, seen < radius)

    def detection(self) -> Detection | None:
        """The figures; None where a picture had no map, or nothing is in focus."""
        f_max = self._measure.maximum() if self._complete else None
        if f_max is None:
            return None
        return Detection(
            f_max=f_max,
            mae=float(np.mean(self._errors)) if self._errors else None,
            wider=tuple(self._under()) if self._by_radius else (),
        )

    def _under(self) -> Iterator[FocusUnder]:
        for radius, measure in self._wider.items():
            found = measure.maximum()
            assert found is not None, "what is in focus by less is so by more"
            yield FocusUnder(under_px=radius, share=measure.share, f_max=found)
