"""Long builds: a progress bar, and Ctrl-C that ends them.

TensorRT builds inside one call of minutes, during which Python's main thread would not see Ctrl-C.
So the call runs in a thread of its own; TensorRT asks after each step whether to go on.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from threading import Event, current_thread, main_thread
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")

_POLL = 0.1  # seconds between looks for Ctrl-C


def cancellable(work: Callable[[], T], cancel: Event) -> T:
    """`work()`, run in a thread. Ctrl-C sets `cancel`, and is raised once `work` has ended."""
    with _interrupts_set(cancel), ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        while not future.done():  # Windows lets no signal into a wait without end
            wait((future,), timeout=_POLL)
    if cancel.is_set():
        raise KeyboardInterrupt
    return future.result()


@contextmanager
def _interrupts_set(cancel: Event) -> Iterator[None]:
    """Within it, Ctrl-C sets `cancel` and does nothing else.

    As an exception it could come while a thread is started or a lock is taken, and leave the thread
    alone or the lock closed. Other handlers of Ctrl-C than Python's own are left in place.
    """
    ours = current_thread() is main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda _number, _frame: cancel.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def monitored(trt: Any, config: Any) -> Iterator[Event]:
    """Show the progress of builds with `config`, on stderr where that is a terminal.

    Yields the event that cancels them. TensorRT before 8.6 has no progress monitors: there is no
    bar then, and a build comes to its end before Ctrl-C takes effect.
    """
    cancel = Event()
    if not hasattr(trt, "IProgressMonitor"):
        yield cancel
        return
    monitor = _make_monitor(trt, cancel)
    config.progress_monitor = monitor
    with closing(monitor.bar):
        yield cancel


def _make_monitor(trt: Any, cancel: Event) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # pybind11 asks for this form
            self.bar = tqdm(
                total=0, desc="build", unit="step", disable=None, leave=False, file=sys.stderr
            )

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:  # noqa: ARG002
            self.bar.total += steps
            self.bar.set_description_str(phase, refresh=False)

        def step_complete(self, phase: str, step: int) -> bool:  # noqa: ARG002
            self.bar.update()
            return not cancel.is_set()

        def phase_finish(self, phase: str) -> None:
            """Part of the interface; the next phase's start is what the bar shows."""

    return Monitor()
