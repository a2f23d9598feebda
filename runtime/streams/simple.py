"""Frames of any iterator, results into any function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from time import perf_counter
from typing import Any

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.streams.frames import Damaged, Sink, Source, StreamFrame


class Frames(Source):
    """Pictures from any iterable. `live`: they come whether or not somebody takes them."""

    def __init__(self, pictures: Iterable[Any], *, live: bool = False) -> None:
        self.live = live
        self._pictures = pictures
        self._closed = False

    @property
    def total(self) -> int | None:
        """See Source."""
        return len(self._pictures) if isinstance(self._pictures, Sized) else None

    def frames(self) -> Iterator[StreamFrame | Damaged]:
        """See Source."""
        for index, picture in enumerate(self._pictures):
            if self._closed:
                return
            yield StreamFrame(picture, index, perf_counter())

    def close(self) -> None:
        """End before the next picture."""
        self._closed = True


class Callback(Sink):
    """Hands each frame and its result to a function, in a thread of the pipeline."""

    def __init__(self, function: Callable[[StreamFrame, Result], object]) -> None:
        self._function = function

    def write(self, frame: StreamFrame, result: Result) -> None:
        """See Sink; what the function raises ends the pipeline."""
        self._function(frame, result)

    def close(self) -> None:
        """Nothing is held."""
