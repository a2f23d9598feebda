"""Threads for tests: started, waited for, and not waited for without end."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

PATIENCE = 10  # seconds that nothing here needs


def started(work: Callable[[], object]) -> Thread:
    """`work` in a thread of its own, which does not keep a failed test from ending."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


def joined(thread: Thread) -> None:
    """Wait for it to end."""
    thread.join(PATIENCE)
    assert not thread.is_alive()
