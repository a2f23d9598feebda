"""Calls from several threads at once, each with things of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Generic, TypeVar

from allfocus.runtime.errors import ArtefactError

T = TypeVar("T")


class Lanes(Generic[T]):
    """A call takes one of the lanes for itself, and waits only where none is free.

    `name` is what is told as closed. The lane used last is the next one taken: what it has made
    ready for a frame's size is there, and lanes that nobody needs stay empty.
    """

    def __init__(self, lanes: Iterable[T], name: str) -> None:
        self._name = name
        self._free = list(lanes)
        self._count = len(self._free)
        self._closed = False
        self._changed = Condition()

    @contextmanager
    def one(self) -> Iterator[T]:
        """A lane for one call. Raises ArtefactError after `close`, also where it waited then."""
        lane = self._take()
        try:
            yield lane
        finally:
            with self._changed:
                self._free.append(lane)
                self._changed.notify_all()

    def close(self) -> None:
        """Let no call in any more, and wait for those at work; again, it only waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._free) == self._count)

    def _take(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._closed)
            if self._closed:
                raise ArtefactError(f"{self._name}: closed; load it again")
            return self._free.pop()
