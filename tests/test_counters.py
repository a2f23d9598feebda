"""What a pipeline tells about itself."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.streams.counters import Counters, Snapshot


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


def test_nothing_yet_is_told_too() -> None:
    found = Counters().snapshot()
    assert (found.frames, found.p99_ms, found.skipped) == (0, 0.0, 0.0)
    assert found.line().startswith("0 frames, 0.0/s")


def test_trust_is_the_mean_of_what_was_checked() -> None:
    counters = Counters()
    counters.written(0.0, 0.0)
    assert counters.snapshot().trust is None
    assert "trust" not in counters.snapshot().line()
    assert "trust" not in counters.snapshot().prometheus()
    counters.written(0.0, 0.0, 0.5)
    counters.written(0.0, 0.0, 1.0)
    assert counters.snapshot().trust == 0.75
    assert ", trust 0.75" in counters.snapshot().line()
    assert "allfocus_trust 0.75" in counters.snapshot().prometheus()


def test_the_line_names_the_step() -> None:
    counters = counted([0.1])
    assert "step" not in counters.snapshot().line()
    counters.stepped(1, "coarse")
    counters.missed()
    counters.damaged()
    assert "1 damaged, 1 late, 25% in focus, step 1 (coarse)" in counters.snapshot().line()


def test_the_text_for_prometheus() -> None:
    lines = counted([0.1, 0.2]).snapshot(dropped=5).prometheus().splitlines()
    values = dict(line.split() for line in lines if not line.startswith("#"))
    assert values["allfocus_frames_total"] == "2"
    assert values["allfocus_dropped_total"] == "5"
    assert float(values["allfocus_p50_ms"]) == pytest.approx(150)
    kinds = [line.split()[2:] for line in lines if line.startswith("# TYPE")]
    assert ["allfocus_frames_total", "counter"] in kinds
    assert ["allfocus_fps", "gauge"] in kinds
    assert {name for name, _ in kinds} == set(values)
    assert "allfocus_step_name" not in values  # no number


_KINDS = {"int": st.integers(0, 10**15), "float": st.floats(0, 1e12)}
_NUMBERS = {
    field.name: _KINDS[str(field.type)] for field in fields(Snapshot) if field.type in _KINDS
}


@given(st.fixed_dictionaries(_NUMBERS))
def test_no_digit_is_lost_on_the_way_to_prometheus(numbers: dict[str, float]) -> None:
    lines = replace(Counters().snapshot(), **numbers).prometheus().splitlines()
    values = dict(line.split() for line in lines if not line.startswith("#"))
    for name, number in numbers.items():
        text = values.get(f"allfocus_{name}") or values[f"allfocus_{name}_total"]
        assert float(text) == number
        assert not isinstance(number, int) or text == str(number)


def test_numbers_of_numpy_are_numbers_for_prometheus() -> None:
    shown = replace(Counters().snapshot(), trust=np.float64(0.25)).prometheus()
    assert "allfocus_trust 0.25\n" in shown
