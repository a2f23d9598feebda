"""A waiting line of bounded length between two threads, and what happens when it is full."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import Generic, Literal, TypeVar

from allfocus.runtime.errors import UsageError
from allfocus.runtime.real import whole
from allfocus.runtime.streams.patience import wait_for

T = TypeVar("T")

WhenFull = Literal["wait", "drop-oldest", "drop-newest"]
POLICIES: tuple[WhenFull, ...] = ("wait", "drop-oldest", "drop-newest")


class Line(Generic[T]):
    """First in, first out, at most `length` at a time; `dropped` counts what was thrown away."""

    def __init__(self, length: int, when_full: WhenFull = "wait") -> None:
        if when_full not in POLICIES:
            raise UsageError(f"when full: expected one of {', '.join(POLICIES)}, got {when_full!r}")
        self.dropped = 0
        self._length = _checked(length)
        self._when_full = when_full
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> bool:
        """Add `item`, or drop one; waits where that is the policy. False after `close`."""
        with self._changed:
            if self._when_full == "wait":
                wait_for(self._changed, lambda: not self._full())
            if self._closed:
                return False
            if self._full():
                self.dropped += 1
                if self._when_full == "drop-newest":
                    return True
                self._items.popleft()
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> T | None:
        """The next item, waited for; None when the line is closed and empty."""
        with self._changed:
            wait_for(self._changed, lambda: bool(self._items) or self._closed)
            try:
                item = self._items.popleft()
            except IndexError:  # closed; also by a signal's handler, at this very place
                return None
            self._changed.notify_all()
            return item

    def close(self, *, empty: bool = False) -> None:
        """Take nothing more; with `empty`, forget what is waiting, which counts as dropped."""
        with self._changed:
            self._closed = True
            if empty:
                self.dropped += len(self._items)
                self._items.clear()
            self._changed.notify_all()

    def _full(self) -> bool:
        return not self._closed and len(self._items) >= self._length


def _checked(length: object) -> int:
    """A length, of NumPy's kinds too; raises UsageError for what is none."""
    number = whole(length, 1)
    if number is None:
        raise UsageError(f"length: expected a whole number of at least 1, got {length!r}")
    return number
