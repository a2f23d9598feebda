"""Several threads at one line of work, whose results leave in the order in which it came."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import TypeVar

from allfocus.runtime.streams.patience import holding, wait_for

T = TypeVar("T")


class Turns:
    """Numbers what the threads take, and lets them finish one after the other, by these numbers."""

    def __init__(self) -> None:
        self._taking = Lock()
        self._taken = self._at = 0
        self._ended = False
        self._changed = Condition()

    def take(self, source: Callable[[], T]) -> tuple[int, T]:
        """What `source` gives to one thread at a time, and its number."""
        with holding(self._taking):
            item = source()
            self._taken += 1
            return self._taken - 1, item

    @contextmanager
    def turn(self, number: int) -> Iterator[bool]:
        """Wait until all before `number` are through; False where `end` came first.

        A turn that fails is the last one.
        """
        with self._changed:
            wait_for(self._changed, lambda: self._at == number or self._ended)
            came = self._at == number
        try:
            yield came
        except BaseException:
            self.end()
            raise
        if came:  # after one that did not, none comes
            with self._changed:
                self._at = number + 1
                self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait any more: somebody has failed, whose turn will never be over."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
