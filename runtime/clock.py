"""Where the time of a frame goes."""

from __future__ import annotations

from time import perf_counter


class Clock:
    """Milliseconds by name: `lap(name)` books what went by since the lap before."""

    def __init__(self) -> None:
        self.timings = {"pre": 0.0, "infer": 0.0, "post": 0.0}
        self.copies = 0  # between host and GPU
        self._last = perf_counter()

    def lap(self, name: str) -> None:
        """Book the time since the last lap, or since the start, as `name`."""
        now = perf_counter()
        self.timings[name] = self.timings.get(name, 0.0) + (now - self._last) * 1e3
        self._last = now
