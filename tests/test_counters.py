"""What a pipeline tells about itself."""

from __future__ import annotations

import numpy as np
import pytest

from allfocus.runtime.streams.counters import Counters


def counted(latencies: list[float], fps: float = 10.0) -> Counters:
    """Frames at a steady rate in a time of the test's own."""
    now = 0.0
    counters = Counters(clock=lambda: now)
    for index, latency in enumerate(latencies):
        now = (index + 1) / fps
        counters.written(now - latency, skipped=0.25)
    return counters


def test_percentiles_are_of_the_latencies_and_the_rate_of_the_last_seconds() -> None:
    latencies = list(np.random.default_rng(0).random(200) / 10)
    found = counted(latencies).snapshot(dropped=3)
    for name, share in (("p50_ms", 50), ("p95_ms", 95), ("p99_ms", 99)):
        assert getattr(found, name) == pytest.approx(np.percentile(latencies, share) * 1e3)
    assert found.max_ms == pytest.approx(max(latencies) * 1e3)
    assert found.fps == pytest.approx(10, rel=0.05)
    assert (found.frames, found.dropped, found.skipped) == (200, 3, 0.25)
    assert found.seconds == pytest.approx(20)


def test_percentiles_forget_and_the_maximum_does_not() -> None:
    found = counted([9.0] + [0.1] * 1200, fps=100.0).snapshot()
    assert found.p99_ms == pytest.approx(100)
    assert found.max_ms == pytest.approx(9000)


def test_time_counts_from_the_start_of_the_work() -> None:
    now = 5.0
    counters = Counters(clock=lambda: now)
    now = 100.0
    counters.start()
    now = 102.0
    assert counters.snapshot().seconds == pytest.approx(2)


def test_nothing_yet_is_told_too() -> None:
    found = Counters().snapshot()
    assert (found.frames, found.p99_ms, found.skipped) == (0, 0.0, 0.0)
    assert found.line().startswith("0 frames, 0.0/s")


def test_trust_is_the_mean_of_what_was_checked() -> None:
    counters = Counters()
    counters.written(0.0, 0.0)
    assert counters.snapshot().trust is None
    assert "trust" not in counters.snapshot().line()
    counters.written(0.0, 0.0, 0.5)
    counters.written(0.0, 0.0, 1.0)
    assert counters.snapshot().trust == 0.75
    assert ", trust 0.75" in counters.snapshot().line()


def test_the_line_names_the_step() -> None:
    counters = counted([0.1])
    assert "step" not in counters.snapshot().line()
    counters.stepped(1, "coarse")
    counters.missed()
    counters.damaged()
    assert "1 damaged, 1 late, 25% in focus, step 1 (coarse)" in counters.snapshot().line()
