"""Threads for tests: started, waited for, and not waited for without end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from threading import Thread

PATIENCE = 60  # seconds that nothing here needs, also where a machine is busy with other work


def started(work: Callable[[], object]) -> Thread:
    """`work` in a thread of its own, which does not keep a failed test from ending."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


def joined(thread: Thread) -> None:
    """Wait for it to end."""
    thread.join(PATIENCE)
    assert not thread.is_alive()


def struck() -> Thread:
    """A thread that takes a Ctrl-C in a moment, which does not wake the main one."""

    def strike() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    return started(strike)
