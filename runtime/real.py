"""Numbers as callers give them: Python's own and NumPy's."""

from __future__ import annotations

import math
from numbers import Integral, Real


def real(value: object) -> float | None:
    """A number as a float; None for what is none, as True and False, or beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def above_zero(value: object) -> float | None:
    """A finite number above 0 as a float; None for anything else."""
    number = real(value)
    return number if number is not None and 0 < number < math.inf else None


def whole(value: object, least: int) -> int | None:
    """A whole number of at least so much as an int; None for anything else, as True and False."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        return None
    return int(value)
