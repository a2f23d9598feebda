"""SIGINT and SIGTERM as a wish to end soon."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def ending_alike() -> Iterator[None]:
    """Within `with`, what else ends a process acts as Ctrl-C does, by KeyboardInterrupt: so what is
    cleaned up then is cleaned up when a scheduler or a closed terminal ends it, too.
    """
    ends = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}  # Windows has one
    former = _take_over(ends, signal.default_int_handler)
    try:
        yield
    finally:
        _give_back(former)


class Stop:
    """Within `with`, the first SIGINT or SIGTERM makes `asked` true, and a second acts at once.

    `unit` is what is finished before the end, for the message; `then` is called at the first one.
    """

    def __init__(self, unit: str, then: Callable[[], object] = lambda: None) -> None:
        self.asked = False
        self._message = f"allfocus: ending after the {unit} in hand; once more: at once\n"
        self._then = then
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        self._former = _take_over((signal.SIGINT, signal.SIGTERM), self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        _give_back(self._former)

    def _ask(self, *_: object) -> None:
        self.asked = True
        self.__exit__()
        with suppress(OSError):  # not print: the signal may have come in the middle of one
            os.write(2, self._message.encode())
        self._then()


def _take_over(numbers: Iterable[int], handler: Callable[..., object]) -> dict[int, Any]:
    """Handle these signals, but for those that are ignored, as `nohup` and shells want it; what
    handled them before.
    """
    taken = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in taken}


def _give_back(former: dict[int, Any]) -> None:
    for number, handler in former.items():
        signal.signal(number, handler or signal.SIG_DFL)
