"""How many CPUs this process may really use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path

_PROC = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """CPUs left by the affinity mask and by the control group's quota; at least 1.

    `os.cpu_count` gives the machine's number: in a container limited to 2 of 64 CPUs an engine
    would start 64 threads that wait for each other.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    return max(1, min([count, *(ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """The quotas, in CPUs, of this process's control groups and of all above them."""
    try:
        lines = _PROC.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        number, controllers, group = line.split(":", 2)
        if number == "0":
            yield from _upwards(_CGROUPS, group, _read_v2)
        elif "cpu" in controllers.split(","):
            yield from _upwards(_CGROUPS / "cpu", group, _read_v1)


def _upwards(root: Path, group: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    """What `read` finds in the group's folder and in those above it, up to `root`.

    Inside a container the group's path may be the host's, which is not there: the root counts.
    """
    folder = root / group.lstrip("/")
    for place in (folder, *folder.parents):
        if place == root or root in place.parents:
            quota = read(place)
            if quota is not None:
                yield quota


def _read_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # ValueError: "max", which is no limit
        return None


def _read_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        period = int((folder / "cpu.cfs_period_us").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None  # -1 is no limit
