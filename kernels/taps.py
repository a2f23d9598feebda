"""The geometry of isotropic kernels (JDRL, eq. 7): which elements of a kernel are equal.

An isotropic kernel of level i covers (2i-1) x (2i-1) elements, and an element's value depends on
its distance from the centre alone. Mirrored in both axes and the diagonal, elements come in rings
of 1, 4 or 8 equal ones; one `Tap` stands for each ring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from allfocus.runtime.errors import UsageError

LEVELS = 8  # the paper's m


@dataclass(frozen=True)
class Tap:
    """One ring of equal elements: those at (±dy, ±dx) and (±dx, ±dy), 0 <= dy <= dx, in pixels.

    Its value before the softmax is `(1 - fraction) * a[inner] + fraction * a[inner + 1]`, with the
    level's seeds a; 0 where `inner` is None, which is where the distance exceeds i - 1.
    """

    dy: int
    dx: int
    inner: int | None
    fraction: float

    @property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """The ring's elements as (y, x) in pixels, in a fixed order."""
        signed = {
            (a * y, b * x)
            for y, x in ((self.dy, self.dx), (self.dx, self.dy))
            for a in (1, -1)
            for b in (1, -1)
        }
        return tuple(sorted(signed))


@lru_cache(maxsize=64)
def taps(level: int) -> tuple[Tap, ...]:
    """The i(i+1)/2 rings of level i; ring (dy, dx) stands at index dx(dx+1)/2 + dy."""
    return tuple(_tap(dy, dx, level - 1) for dx in range(level) for dy in range(dx + 1))


def _tap(dy: int, dx: int, radius: int) -> Tap:
    square = dy * dy + dx * dx
    if square > radius * radius:
        return Tap(dy, dx, None, 0.0)
    inner = math.isqrt(square)
    return Tap(dy, dx, inner, math.sqrt(square) - inner)


def seed_count(levels: int) -> int:
    """Seeds of a pixel: 2 + 3 + ... + m for m levels; 35 for the paper's 8."""
    return levels * (levels + 1) // 2 - 1


def seed_slice(level: int) -> slice:
    """Where the i seeds of level i, 2 <= i <= m, stand among a pixel's seeds."""
    return slice(seed_count(level - 1), seed_count(level))


def levels_of(seeds: int) -> int:
    """The number of levels m that has so many seeds; raises UsageError where none has."""
    levels = (math.isqrt(8 * (seeds + 1) + 1) - 1) // 2
    if seeds < 0 or seed_count(levels) != seeds:
        raise UsageError(
            f"seeds: {seeds} channels; expected 2+3+...+m for m levels, such as {seed_count(8)} "
            f"for m = 8 (near: {seed_count(max(levels, 1))} or {seed_count(levels + 1)})"
        )
    return levels
