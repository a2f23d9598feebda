"""What a pipeline moves, and what it needs of a source and of a sink."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allfocus.runtime.closing import Closing
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.spec import YUV


@dataclass(frozen=True)
class StreamFrame:
    """One picture of a stream.

    `image` is what a Deblurrer takes. `arrived` is `time.perf_counter()` when the source had it.
    `time` is its place in the stream in seconds, where the source knows. `origin` is what the
    source hands to a sink of its kind: a file's path, a decoded frame.
    """

    image: Any
    index: int
    arrived: float
    time: float | None = None
    origin: Any = None


@dataclass(frozen=True)
class Damaged:
    """A frame that could not be read."""

    index: int
    error: AllfocusError


class Source(Closing):
    """Gives frames in order. One that is `live` does not wait: what is not taken is lost."""

    live: bool = False

    @property
    def total(self) -> int | None:
        """How many frames there are; None where nobody knows."""
        return None

    def check(self, deblurrer: Deblurrer) -> None:
        """Raise UsageError where it gives other frames than the model takes. A pipeline asks before
        the first one; of those of any kind nobody knows.
        """

    @abstractmethod
    def frames(self) -> Iterator[StreamFrame | Damaged]:
        """The frames, in order; called once. Ends where the source ends, or after `close`."""


class Sink(Closing):
    """Takes results in order. `close` makes what was written whole."""

    def check(self, deblurrer: Deblurrer) -> None:
        """Raise UsageError where its results cannot be taken. A pipeline asks before the first
        frame; here all can.
        """

    @abstractmethod
    def write(self, frame: StreamFrame, result: Result) -> None:
        """Take one result; raises AllfocusError where it cannot."""


def check_bgr(deblurrer: Deblurrer, where: object) -> None:
    """Raise UsageError where its frames and results are not in grey or BGR, as those of `where`."""
    if deblurrer.graph.io in YUV:
        raise UsageError(
            f"{where}: frames are in grey or BGR here, and the model takes and gives "
            f"{deblurrer.graph.io}: load one without io, or convert around simple.Frames and "
            "simple.Callback"
        )
    if deblurrer.color != "bgr":
        raise UsageError(
            f"{where}: frames are in grey or BGR here, and the model was loaded with "
            f'color="{deblurrer.color}": load it without'
        )
