"""Whether the frames of a video come evenly."""

from __future__ import annotations

import math
from fractions import Fraction

_UNEVEN = Fraction(3, 2)  # a step to the shortest one: more than rounding to milliseconds makes


class Pace:
    """The steps between frames, by their own times."""

    def __init__(self) -> None:
        self._last: Fraction | None = None
        self._shortest: Fraction | float = math.inf
        self._longest = Fraction(0)

    def count(self, begin: Fraction | None) -> None:
        """One more frame begins, in seconds; no step is counted to or from one without a time."""
        if begin is None:
            return
        if self._last is not None and begin > self._last:
            step = begin - self._last
            self._shortest, self._longest = min(self._shortest, step), max(self._longest, step)
        self._last = begin

    @property
    def uneven(self) -> bool:
        """Whether some frame stays clearly longer than another."""
        return self._longest > _UNEVEN * self._shortest
