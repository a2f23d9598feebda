"""What a call costs that can be counted: the same in every run, and under any load."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any


def python_calls(call: Callable[[], object]) -> int:
    """How many functions of Python and of C are called by Python in `call`, on this thread."""
    count = 0

    def seen(_: FrameType, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()  # what a collection calls has nothing to do with this
    sys.setprofile(seen)
    try:
        call()
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
    return count - 1  # the one to sys.setprofile at the end


def python_memory(call: Callable[[], object]) -> int:
    """Bytes that Python and NumPy hold at most in `call`, more than before it."""
    if tracemalloc.is_tracing():
        raise RuntimeError("tracemalloc is at work already: stop it first")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        call()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return max(0, most - before)
