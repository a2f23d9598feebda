"""Waiting for other threads, in slices.

A Ctrl-C that another thread takes does not wake the main one: it would wait on, for what the signal
was to end. So nobody waits for longer than a slice without looking up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock, Thread

_SLICE = 0.2  # seconds


def wait_for(changed: Condition, so: Callable[[], bool]) -> None:
    """Wait until `so` holds; `changed`, which the caller has acquired, tells when to look."""
    while not so():
        changed.wait(_SLICE)


@contextmanager
def holding(lock: Lock) -> Iterator[None]:
    """`with lock`, waited for."""
    while not lock.acquire(timeout=_SLICE):
        pass
    try:
        yield
    finally:
        lock.release()


def join(thread: Thread) -> None:
    """Wait for its end."""
    while thread.is_alive():
        thread.join(_SLICE)
