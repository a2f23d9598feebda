"""What a running pipeline tells about itself: as an object, and as a line for a log."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import perf_counter

import numpy as np

from allfocus.runtime.memory import format_bytes, resident

_KEPT = 1000  # latencies that percentiles are taken of
_WINDOW = 5.0  # seconds that the frame rate is taken over


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A pipeline's counters at one moment. Latency: from a frame's arrival to its result written.

    Percentiles are of the last 1,000 frames, the rate is of the last 5 seconds.
    """

    frames: int  # written
    dropped: int  # thrown away before they were looked at, since the line was full
    damaged: int  # could not be read or deblurred
    missed: int  # handed to the sink after their deadline
    seconds: float  # since the start
    fps: float
    mean_ms: float  # of all frames
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float  # of all frames
    skipped: float  # mean share of a frame that was in focus and passed through
    trust: float | None  # mean of the frames that were checked; None: none was
    step: int  # of the ladder: 0 is the best
    step_name: str
    memory_bytes: int | None  # held by the process

    def line(self) -> str:
        """One line for a log."""
        held = "" if self.memory_bytes is None else f", {format_bytes(self.memory_bytes)}"
        trust = "" if self.trust is None else f", trust {self.trust:.2f}"
        step = f", step {self.step} ({self.step_name})" if self.step_name else ""
        return (
            f"{self.frames} frames, {self.fps:.1f}/s, latency p50 {self.p50_ms:.0f} p95 "
            f"{self.p95_ms:.0f} p99 {self.p99_ms:.0f} max {self.max_ms:.0f} ms, {self.dropped} "
            f"dropped, {self.damaged} damaged, {self.missed} late, {self.skipped:.0%} in focus"
            f"{trust}{step}{held}"
        )


class Counters:
    """Counted by the pipeline's threads, read by anybody."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._lock = Lock()
        self._start = clock()
        self._frames = self._damaged = self._missed = 0
        self._waited = self._longest = self._skipped = self._trust = 0.0
        self._checked = 0
        self._latencies: deque[float] = deque(maxlen=_KEPT)
        self._ends: deque[float] = deque()
        self._step, self._step_name = 0, ""

    def start(self) -> None:
        """Time counts from now."""
        with self._lock:
            self._start = self._clock()

    def written(self, arrived: float, skipped: float, trust: float | None = None) -> None:
        """A result has left, whose mean trust is known where it was checked."""
        now = self._clock()
        with self._lock:
            self._frames += 1
            self._skipped += skipped
            if trust is not None:
                self._checked, self._trust = self._checked + 1, self._trust + trust
            self._waited += now - arrived
            self._longest = max(self._longest, now - arrived)
            self._latencies.append(now - arrived)
            self._ends.append(now)
            self._forget(now)

    def damaged(self) -> None:
        """A frame could not be read."""
        with self._lock:
            self._damaged += 1

    def missed(self) -> None:
        """A result was handed to the sink after its deadline."""
        with self._lock:
            self._missed += 1

    def stepped(self, step: int, name: str) -> None:
        """The ladder's step that frames are done with now."""
        with self._lock:
            self._step, self._step_name = step, name

    def snapshot(self, dropped: int = 0) -> Snapshot:
        """All of it now."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            latencies = np.array(self._latencies or [0.0]) * 1e3
            p50, p95, p99 = (float(p) for p in np.percentile(latencies, (50, 95, 99)))
            elapsed = now - self._start
            return Snapshot(
                frames=self._frames,
                dropped=dropped,
                damaged=self._damaged,
                missed=self._missed,
                seconds=elapsed,
                fps=len(self._ends) / max(min(elapsed, _WINDOW), 1e-9),
                mean_ms=self._waited / max(1, self._frames) * 1e3,
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                max_ms=self._longest * 1e3,
                skipped=self._skipped / max(1, self._frames),
                trust=self._trust / self._checked if self._checked else None,
                step=self._step,
                step_name=self._step_name,
                memory_bytes=resident(),
            )

    def _forget(self, now: float) -> None:
        while self._ends and self._ends[0] < now - _WINDOW:
            self._ends.popleft()
