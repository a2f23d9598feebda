"""Describing the machine a figure was measured on, without importing any engine."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

from allfocus.benchmarks.schema import Clock, Clocks, Gpu, Machine
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.gpu import find_gpus
from allfocus.runtime.host import describe_cpu, installed_packages

_CPUS = Path("/sys/devices/system/cpu")
_CPUINFO = Path("/proc/cpuinfo")
_CLOCK_QUERY = "name,clocks.sm,clocks.mem,temperature.gpu"


def describe() -> Machine:
    """This machine now; call `finish` on it when the measurement is over."""
    cpu, features = describe_cpu()
    load = load_average()
    found = find_gpus()
    return Machine(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        cpu=cpu,
        cores=available_cpus(),
        features=features,
        memory_bytes=_memory(),
        os=platform.platform(),
        python=platform.python_version(),
        packages=installed_packages(),
        gpus=tuple(
            Gpu(name=g.name, target=g.target, memory_bytes=g.memory_bytes) for g in found.devices
        ),
        driver=found.driver,
        clocks=clocks(),
        load_start=load,
        load_end=load,
    )


def finish(machine: Machine) -> Machine:
    """`machine` with the load average and the GPUs' clocks at the end of the measurement."""
    return dataclasses.replace(machine, clocks=clocks(), load_end=load_average())


def load_average() -> float | None:
    """Runnable processes, averaged over the last minute; None where the OS does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def clocks() -> tuple[Clock, ...]:
    """The GPUs' clocks now, by nvidia-smi; none where it is not installed or finds no driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, f"--query-gpu={_CLOCK_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return ()
    return parse_clocks(done.stdout)


def speeds() -> Clocks:
    """How fast the CPUs that this process may use, and the GPUs, run now."""
    return Clocks(cpu_mhz=_cpu_mhz(), gpus=clocks())


def _cpu_mhz() -> tuple[int, ...]:
    """By cpufreq, else by /proc/cpuinfo; in a virtual machine that is what the host tells it."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    mine = sorted(os.sched_getaffinity(0))
    files = [_CPUS / f"cpu{number}" / "cpufreq" / "scaling_cur_freq" for number in mine]
    try:
        return tuple(int(file.read_text(encoding="ascii")) // 1000 for file in files)
    except (OSError, ValueError):
        pass
    try:
        found = parse_mhz(_CPUINFO.read_text(encoding="utf-8"))
    except OSError:
        return ()
    return tuple(found[number] for number in mine if number in found)


def parse_mhz(text: str) -> dict[int, int]:
    """The `cpu MHz` of each `processor` in /proc/cpuinfo; empty where it tells none."""
    found = {}
    processor = None
    for key, _, value in (line.partition(":") for line in text.splitlines()):
        if key.strip() == "processor":
            processor = _whole(value.strip())
        elif key.strip() == "cpu MHz" and processor is not None:
            found[processor] = round(float(value))
    return found


def parse_clocks(text: str) -> tuple[Clock, ...]:
    """nvidia-smi's CSV, one GPU a line; a value it does not know, "[N/A]", becomes None."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line]
    return tuple(
        Clock(gpu=name, sm_mhz=_whole(sm), memory_mhz=_whole(memory), celsius=_whole(celsius))
        for name, sm, memory, celsius in rows
    )


def summary(machine: Machine) -> str:
    """One line for people."""
    gpu = ", ".join(g.name for g in machine.gpus) or "no NVIDIA GPU"
    load = "" if machine.load_start is None else f", load {machine.load_start}-{machine.load_end}"
    return f"{machine.cpu}, {machine.cores} cores, {gpu}, {machine.os}{load}"


def require_psutil() -> Any:
    """The module psutil, which only systems without /proc and sysconf need."""
    try:
        return import_module("psutil")
    except ImportError as error:
        raise AllfocusError(
            f'measuring memory on this system needs psutil ({error}): pip install "allfocus[bench]"'
        ) from error


def _memory() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(require_psutil().virtual_memory().total)


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None
