"""What a run shows besides its log.csv: TensorBoard's events, and looks at its nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Look(Protocol):
    """Something that looks at a run's nets every so many steps, and leaves them as they are."""

    every: int  # steps; 0: never
    at_end: bool  # also after the last step, where that is one of them

    def begin(self, first: int) -> None:
        """The run begins, or goes on, with `first` steps done."""

    def write(self, step: int) -> Mapping[str, float]:
        """Look, with `step` steps done; figures for TensorBoard."""


@dataclass(frozen=True)
class Watch:
    """See the module's text."""

    events: bool = False
    looks: Sequence[Look] = ()

    def due(self, step: int, steps: int) -> list[Look]:
        """Those that look when `step` of `steps` steps are done."""
        timely = [look for look in self.looks if look.every and step % look.every == 0]
        return [look for look in timely if look.at_end or step < steps]
