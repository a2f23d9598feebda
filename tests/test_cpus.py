"""CPUs that a process may really use, from pretended control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from allfocus.runtime import cpus
from allfocus.runtime.cpus import available_cpus


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """16 CPUs in the affinity mask; the folder in which control groups are pretended."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(cpus, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(cpus, "_CGROUPS", tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_without_groups_the_mask_counts() -> None:
    assert available_cpus() == 16


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("max 100000", 16),
        ("9999999 100000", 16),
        ("", 16),
        ("garbage here", 16),
    ],
)
def test_quota_of_version_2(machine: Path, quota: str, expected: int) -> None:
    write(machine / "proc", "0::/user/app\n")
    write(machine / "user" / "app" / "cpu.max", quota)
    assert available_cpus() == expected


def test_the_smallest_quota_on_the_way_up_counts(machine: Path) -> None:
    write(machine / "proc", "0::/user/app\n")
    write(machine / "user" / "app" / "cpu.max", "800000 100000")
    write(machine / "user" / "cpu.max", "300000 100000")
    write(machine / "cpu.max", "max 100000")
    assert available_cpus() == 3


def test_inside_a_container_the_root_counts(machine: Path) -> None:
    write(machine / "proc", "0::/docker/0123abcd\n")
    write(machine / "cpu.max", "400000 100000")
    assert available_cpus() == 4


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", 16)])
def test_quota_of_version_1(machine: Path, quota: str, expected: int) -> None:
    write(machine / "proc", "5:devices:/x\n4:cpu,cpuacct:/app\n0::/\n")
    write(machine / "cpu" / "app" / "cpu.cfs_quota_us", quota)
    write(machine / "cpu" / "app" / "cpu.cfs_period_us", "100000")
    assert available_cpus() == expected


def test_without_a_mask_the_machine_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus() == 1
