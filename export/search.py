"""Which layers compute in 8 bits: all, or all but those that hurt most, until a limit of decibels
holds.

Each layer is tried alone in 8 bits on a few crops. Those that do most damage for the time they save
are raised first, twice as many each time, until the limit holds; then the fewest that suffice are
found between. Every step is measured on the whole evaluation set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from allfocus.export.quality import Loss, Picture, Quality, Speed, run_ort
from allfocus.export.quantize import Dialect

if TYPE_CHECKING:
    from onnx import ModelProto

Make = Callable[[Sequence[str]], "ModelProto"]  # the graph in which these layers are not in 8 bits


@dataclass(frozen=True)
class Step:
    """One choice of layers, measured."""

    kept: tuple[str, ...]  # that are not in 8 bits, the most harmful first
    share: float  # of the convolutions' work that is in 8 bits
    loss: Loss
    speed: Speed | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "loss_db": self.loss.loss_db}


@dataclass(frozen=True)
class Trade:
    """The steps in the order they were tried, and the one that is taken."""

    steps: tuple[Step, ...]
    taken: Step
    max_loss: float

    @property
    def holds(self) -> bool:
        """Whether the step that is taken loses no more than it may."""
        return self.taken.loss.loss_db <= self.max_loss


class Search:
    """Measures choices of layers. `work`: what each layer costs, in any unit; `never`: layers that
    are not in 8 bits in any case."""

    def __init__(
        self,
        work: Mapping[str, float],
        make: Make,
        quality: Quality,
        dialect: Dialect,
        max_loss: float,
        never: Sequence[str] = (),
    ) -> None:
        self._work, self._never = work, tuple(never)
        self._make, self._quality, self._dialect = make, quality, dialect
        self._max_loss = max_loss
        self._steps: dict[int, Step] = {}

    def once(self, kept: Sequence[str] = ()) -> Trade:
        """All layers in 8 bits but `kept`."""
        step = self._measured(tuple(kept))
        return Trade((step,), step, self._max_loss)

    def run(self, crops: Sequence[Picture]) -> Trade:
        """As few layers raised as hold the limit; all, where even that does not."""
        if self._holds(0, ()):
            return self._trade(0)
        free = {name: work for name, work in self._work.items() if name not in self._never}
        order = ranked(free, self._make, crops)
        low, high = 0, 1
        while not self._holds(high, order):
            if high == len(order):
                return self._trade(high)
            low, high = high, min(2 * high, len(order))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._holds(middle, order) else (middle, high)
        return self._trade(high)

    def _holds(self, count: int, order: Sequence[str]) -> bool:
        self._steps[count] = self._measured(tuple(order[:count]))
        return self._steps[count].loss.loss_db <= self._max_loss

    def _trade(self, count: int) -> Trade:
        return Trade(tuple(self._steps.values()), self._steps[count], self._max_loss)

    def _measured(self, kept: tuple[str, ...]) -> Step:
        kept = (*self._never, *(name for name in kept if name not in self._never))
        model = self._make(kept)
        what = f"8 bits but {len(kept)} layers" if kept else "8 bits"
        share = 1 - sum(self._work.get(name, 0.0) for name in kept) / sum(self._work.values())
        loss = self._quality.loss(model, what)
        return Step(kept, share, loss, self._quality.speed(model, self._dialect))


def ranked(work: Mapping[str, float], make: Make, crops: Sequence[Picture]) -> tuple[str, ...]:
    """The layers by the squared error that each alone makes in 8 bits for the work that it is, the
    worst first."""
    names = list(work)
    exact = run_ort(make(names), as_meant=True)
    wanted = [exact(crop) for crop in crops]
    damage = {}
    for name in tqdm(names, desc="layers", disable=None, leave=False):
        run = run_ort(make([other for other in names if other != name]), as_meant=True)
        errors = [np.mean((run(c) - w) ** 2) for c, w in zip(crops, wanted, strict=True)]
        damage[name] = float(np.mean(errors)) / work[name]
    return tuple(sorted(names, key=lambda name: -damage[name]))
