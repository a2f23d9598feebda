"""Telling how long each step of an export takes, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Steps:
    """`with steps("export"): ...` prints a line when the step is done, and keeps its seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """One step. On a terminal its name stands there from the start."""
        if sys.stderr.isatty():
            print(f"{name:<8} ...", end="\r", file=sys.stderr, flush=True)
        start = perf_counter()
        yield
        self.seconds[name] = round(perf_counter() - start, 3)
        print(f"{name:<8} {self.seconds[name]:6.1f} s", file=sys.stderr)
