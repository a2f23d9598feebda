"""How often a tensor takes which values, and the range that 8 bits should span of them.

`minmax`: all of them. `percentile`: all but one in 10,000 at either end. `mse`: the range of the
least mean squared error: a few values that are cut off may cost less than coarser steps for all
(Nagel et al., "A White Paper on Neural Network Quantization", 2021, section 3.1).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from allfocus.export.ranges import Ends

Method = Literal["mse", "percentile", "minmax"]
METHODS: tuple[Method, ...] = get_args(Method)
LEVELS = 255  # steps of 8 bits
_BINS = 4096  # even: pairs of them are joined where the span doubles
_OUTLIERS = 1e-4  # of the values at either end
_SHARES = np.linspace(0.4, 1.0, 25)  # of the lowest and highest value, that `mse` tries
_CHANNEL_SHARES = np.linspace(0.6, 1.0, 21)

Real = NDArray[np.float64]


class Histogram:
    """Counts of values from -span to span, which doubles where a value lies beyond."""

    def __init__(self) -> None:
        self.span = 0.0
        self.low, self.high = np.inf, -np.inf
        self.counts = np.zeros(_BINS)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count an array of any shape, finite values all."""
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))
        largest = max(abs(self.low), abs(self.high))
        if self.span == 0.0:
            self.span = largest or 1.0
        while self.span < largest:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(pairs, _BINS // 4)
            self.span *= 2
        ends = (-self.span, self.span)
        self.counts += np.histogram(values, bins=_BINS, range=ends)[0]

    def range(self, method: Method) -> Ends:
        """The lowest and the highest value to span; 0 is among them, which padding needs."""
        low, high = min(0.0, self.low), max(0.0, self.high)
        if low == high:
            return 0.0, 1.0
        if method == "percentile":
            low, high = self._percentile(low, high)
        elif method == "mse":
            low, high = self._least_squares(low, high)
        return float(low), float(high)

    @property
    def _centres(self) -> Real:
        step = 2 * self.span / _BINS
        centres: Real = -self.span + step * (np.arange(_BINS, dtype=np.float64) + 0.5)
        return centres

    def _percentile(self, low: float, high: float) -> Ends:
        share = np.cumsum(self.counts) / self.counts.sum()
        first, last = np.searchsorted(share, [_OUTLIERS, 1 - _OUTLIERS])
        step, middle = self.span / _BINS, self._centres
        return max(low, min(0.0, middle[first] - step)), min(high, max(0.0, middle[last] + step))

    def _least_squares(self, low: float, high: float) -> Ends:
        there = self.counts > 0
        values, counts = self._centres[there], self.counts[there]
        lows = _SHARES * low if low < 0 else np.zeros(1)
        highs = _SHARES * high if high > 0 else np.zeros(1)
        tried = [(a, b) for a in lows for b in highs if b > a]
        errors = [float(counts @ (values - rounded(values, a, b)) ** 2) for a, b in tried]
        best: Ends = tried[int(np.argmin(errors))]
        return best


def rounded(values: NDArray[Any], low: float, high: float) -> Real:
    """Values as 8 bits from `low` to `high` hold them; 0 is held exactly."""
    step = (high - low) / LEVELS
    zero = np.rint(-low / step)
    codes: Real = np.clip(np.rint(values / step) + zero, 0, LEVELS)
    values_held: Real = (codes - zero) * step
    return values_held


def channel_scales(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The step of symmetric 8 bits for each output channel of a weight [O, ...]: that of the least
    squared error, [O]."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.maximum(np.abs(flat).max(axis=1), 1e-8)
    best, least = largest / 127, np.full(len(flat), np.inf)
    for share in _CHANNEL_SHARES:
        step = share * largest / 127
        codes = np.clip(np.rint(flat / step[:, None]), -127, 127)
        error = ((flat - codes * step[:, None]) ** 2).sum(axis=1)
        best = np.where(error < least, step, best)
        least = np.minimum(error, least)
    scales: NDArray[np.float32] = best.astype(np.float32)
    return scales
