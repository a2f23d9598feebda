"""What results are compared by: figures of three kinds, and a file as far as it is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from allfocus.benchmarks.schema import Stats

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Ratio:
    """Something over something else of the same round: its statistics over the rounds."""

    stats: Stats
    better: Better

    @property
    def judged(self) -> bool:
        """Whether it has a spread: one round has none, and may be anything."""
        return self.stats.p05 < self.stats.p95


@dataclass(frozen=True)
class Count:
    """Something that is counted: the same in each run of the same program. Less is better.

    `may_grow`: other versions of Python and NumPy count a little more or less.
    """

    value: float
    may_grow: float = 0.25


@dataclass(frozen=True)
class Score:
    """A figure of quality, the more the better, and how much of it may be lost by default.

    `main`: whether `--max-loss` sets that, being in its unit.
    """

    value: float
    unit: str
    may_lose: float
    main: bool = True


Figure = Ratio | Count | Score


@dataclass(frozen=True)
class Result:
    """A file as far as it is compared. `same`: what must be equal; `cpu`: where it was measured;
    `ways`: how each row was computed, where that is told, which may differ and is told then.
    """

    schema: str
    same: dict[str, str]
    cpu: str
    figures: dict[str, Figure]
    ways: dict[str, dict[str, str | None]]


@dataclass(frozen=True, kw_only=True)
class CpuOf:
    """Where something was measured, as far as it is compared."""

    cpu: str
    cores: int
