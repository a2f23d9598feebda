from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from allfocus.benchmarks import machine
from allfocus.benchmarks.schema import Clock


def test_this_machine_is_described() -> None:
    found = machine.describe()
    assert found.cpu
    assert found.cores >= 1
    assert found.memory_bytes > 100 << 20
    assert found.python == platform.python_version()
    assert {"allfocus", "numpy", "torch", "onnxruntime"} <= set(found.packages)


def test_the_load_at_the_end_is_taken_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "getloadavg"):
        pytest.skip("this system has no load average")
    loads = iter([(0.5, 0.0, 0.0), (1.75, 0.0, 0.0)])
    monkeypatch.setattr(os, "getloadavg", lambda: next(loads))
    finished = machine.finish(machine.describe())
    assert (finished.load_start, finished.load_end) == (0.5, 1.75)
    assert "load 0.5-1.75" in machine.summary(finished)


def test_clocks_are_read_and_unknown_ones_are_none() -> None:
    text = "NVIDIA GeForce RTX 4090, 2520, 10501, 61\nNVIDIA H200, [N/A], 3201, 40\n"
    assert machine.parse_clocks(text) == (
        Clock(gpu="NVIDIA GeForce RTX 4090", sm_mhz=2520, memory_mhz=10501, celsius=61),
        Clock(gpu="NVIDIA H200", sm_mhz=None, memory_mhz=3201, celsius=40),
    )


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for nvidia-smi is a shell script")
@pytest.mark.parametrize(
    ("script", "clocks"), [("echo GPU A, 1, 2, 3", 1), ("echo no driver; exit 9", 0)]
)
def test_nvidia_smi_is_asked_and_may_fail(
    script: str, clocks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert len(machine.clocks()) == clocks


def test_without_nvidia_smi_there_are_no_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.clocks() == ()


def test_clocks_of_cpus_are_read_from_cpuinfo() -> None:
    text = "processor\t: 0\ncpu MHz\t\t: 2000.4\n\nprocessor\t: 3\ncpu MHz\t\t: 3100.0\n"
    assert machine.parse_mhz(text) == {0: 2000, 3: 3100}
    assert machine.parse_mhz("processor: 0\nmodel name: x\n") == {}


def test_cpufreq_is_preferred_and_only_cpus_that_may_be_used_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system has no affinity")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 3})
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("".join(f"processor: {n}\ncpu MHz: {n}00\n" for n in range(4)))
    monkeypatch.setattr(machine, "_CPUINFO", cpuinfo)
    monkeypatch.setattr(machine, "_CPUS", tmp_path)
    assert machine.speeds().cpu_mhz == (100, 300)
    for number in (1, 3):
        folder = tmp_path / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{number}500000\n")
    assert machine.speeds().cpu_mhz == (1500, 3500)
    monkeypatch.setattr(machine, "_CPUS", tmp_path / "none")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert machine.speeds().cpu_mhz == ()
