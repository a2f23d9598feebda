"""Counters as Prometheus reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.streams.counters import Counters, Snapshot
from allfocus.runtime.streams.prometheus import exposition

_SAMPLE = re.compile(r'([a-z_]+(?:\{quantile="[0-9.]+"\})?) (\S+)')
_KINDS = {"int": st.integers(0, 10**15), "float": st.floats(0, 1e12)}
_NUMBERS = {
    field.name: _KINDS[str(field.type)] for field in fields(Snapshot) if field.type in _KINDS
}


def counted() -> Snapshot:
    """Two frames that took 0.1 and 0.2 s, and five that were dropped."""
    now = 0.0
    counters = Counters(lambda: now)
    now = 1.0
    for latency in (0.1, 0.2):
        counters.written(now - latency, 0.25)
    return counters.snapshot(dropped=5)


def samples(found: Snapshot) -> dict[str, str]:
    lines = [line for line in exposition(found).splitlines() if not line.startswith("#")]
    pairs = [_SAMPLE.fullmatch(line) for line in lines]
    assert all(pairs)
    return {pair[1]: pair[2] for pair in pairs if pair}


def test_every_number_is_there_in_base_units() -> None:
    found = {name: float(value) for name, value in samples(counted()).items()}
    held = found.pop("allfocus_resident_memory_bytes", 1.0)  # not on every system
    assert held > 0
    assert found == pytest.approx(
        {
            "allfocus_frames_total": 2,
            "allfocus_dropped_frames_total": 5,
            "allfocus_damaged_frames_total": 0,
            "allfocus_late_frames_total": 0,
            "allfocus_uptime_seconds": 1,
            "allfocus_frames_per_second": 2,
            "allfocus_latency_max_seconds": 0.2,
            "allfocus_skipped_ratio": 0.25,
            "allfocus_ladder_step": 0,
            'allfocus_latency_seconds{quantile="0.5"}': 0.15,
            'allfocus_latency_seconds{quantile="0.95"}': 0.195,
            'allfocus_latency_seconds{quantile="0.99"}': 0.199,
            "allfocus_latency_seconds_sum": 0.3,
            "allfocus_latency_seconds_count": 2,
        }
    )


def test_each_metric_has_its_help_and_its_type() -> None:
    lines = exposition(counted()).splitlines()
    named = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert helped == list(named)
    assert named.pop("allfocus_latency_seconds") == "summary"
    assert all((kind == "counter") == name.endswith("_total") for name, kind in named.items())


def test_trust_is_told_where_it_is_known() -> None:
    assert "allfocus_trust_ratio" not in samples(counted())
    for trust in (0.25, np.float64(0.25)):  # NumPy shows its numbers with their type
        assert samples(replace(counted(), trust=trust))["allfocus_trust_ratio"] == "0.25"


@given(st.fixed_dictionaries(_NUMBERS))
def test_no_digit_is_lost(numbers: dict[str, float]) -> None:
    found = samples(replace(counted(), **numbers))
    assert found["allfocus_frames_total"] == str(numbers["frames"])
    assert found["allfocus_dropped_frames_total"] == str(numbers["dropped"])
    assert float(found["allfocus_uptime_seconds"]) == numbers["seconds"]
    assert float(found["allfocus_latency_max_seconds"]) == numbers["max_ms"] / 1e3


def test_prometheus_own_checker_finds_nothing() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("needs promtool, which comes with Prometheus")
    shown = exposition(replace(counted(), trust=0.5))
    run = subprocess.run([promtool, "check", "metrics"], input=shown.encode(), capture_output=True)
    assert (run.returncode, run.stderr) == (0, b"")
