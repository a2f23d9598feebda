"""Keeping a deadline: a ladder of ways to do a frame, each quicker and worse than the one before.

A way's cost is kept in two figures: what it takes when nothing else runs (`calm`), and how much
slower everything is at the moment (`strain`), which is seen on the way in use and holds for all.
So the way above is judged without being tried. Where the way in use costs next to nothing, nothing
is seen: then strain is forgotten with time, and the way above is tried now and then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import UsageError

_SAFETY = 1.15  # a way must be expected to need so much less than there is
_ROOM = 1.2  # ... and so much less before it is gone back to
_HOLD = 0.5  # seconds between a step down and a step up, doubled when it was too early
_LONGEST_HOLD = 2.0
_NOTHING = 0.05  # of the first way's cost: too little to see strain on
_CALMING = 1.0  # seconds in which strain that nobody sees falls to a third


@dataclass(frozen=True)
class Step:
    """A way to do a frame: its name, and what does it."""

    name: str
    run: Callable[[Any], Result]


def pass_through(image: Any) -> Result:
    """The last resort: the frame as it came."""
    return Result(image, None, {"pre": 0.0, "infer": 0.0, "post": 0.0}, skipped=1.0)


class Ladder:
    """Chooses the step for each frame. Steps go from the best to the quickest."""

    def __init__(
        self,
        steps: Sequence[Step],
        deadline: float | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        if not steps:
            raise UsageError("a ladder needs at least one step")
        if deadline is not None and not 0 < deadline < math.inf:
            raise UsageError(f"deadline: expected seconds above 0, got {deadline:g}")
        self.steps = tuple(steps)
        self.deadline = deadline  # seconds
        self.at = 0
        self._clock = clock
        self._calm = [math.nan] * len(steps)  # seconds
        self._strain, self._seen = 1.0, clock()
        self._changed, self._hold = -math.inf, _HOLD

    def choose(self, left: float) -> Step:
        """The way for a frame that must be done in `left` seconds."""
        if self.deadline is not None:
            now = self._clock()
            lower = self.at
            while lower + 1 < len(self.steps) and self._expected(lower, now) * _SAFETY > left:
                lower += 1
            if lower > self.at:
                if now - self._changed < 2 * self._hold:  # it had just gone up: too early
                    self._hold = min(2 * self._hold, _LONGEST_HOLD)
                self.at, self._changed = lower, now
            elif self._may_rise(now, left):
                self.at, self._changed = self.at - 1, now
        return self.steps[self.at]

    def done(self, seconds: float, at: int | None = None) -> None:
        """What the chosen way has taken; `at` is its step, where others were chosen since."""
        at = self.at if at is None else at
        now, calm = self._clock(), self._calm[at]
        if math.isnan(calm):
            self._calm[at] = seconds / self._strain_at(now)
        elif at == 0 or calm > _NOTHING * self._first():
            factor = seconds / max(calm, 1e-9)
            self._strain = max(1.0, 0.5 * self._strain_at(now) + 0.5 * factor)
            self._seen = now
            if factor < 1.2:  # calm enough to learn from
                self._calm[at] += 0.1 * (seconds - calm)
        if self.at == 0 and now - self._changed > 4 * self._hold:
            self._hold = _HOLD

    def _may_rise(self, now: float, left: float) -> bool:
        if not self.at or now - self._changed < self._hold:
            return False
        return self._expected(self.at - 1, now) * _ROOM <= left

    def _expected(self, step: int, now: float) -> float:
        """Seconds that a step would take now; nothing where it was never tried."""
        calm = self._calm[step]
        return 0.0 if math.isnan(calm) else calm * self._strain_at(now)

    def _strain_at(self, now: float) -> float:
        """How much slower all is than when calm; less, the longer nobody has seen it."""
        unseen = max(0.0, now - self._seen - 0.1)
        return float(1 + (self._strain - 1) * np.exp(-unseen / _CALMING))

    def _first(self) -> float:
        first = self._calm[0]
        return 0.0 if math.isnan(first) else first
