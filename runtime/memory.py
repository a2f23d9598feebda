"""Amounts of memory: what this process holds, and what a text such as 2GiB means."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from threading import Lock

from allfocus.runtime.errors import UsageError
from allfocus.runtime.real import whole

_STATUS = Path("/proc/self/status")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", re.IGNORECASE)


def parse_bytes(amount: str | int) -> int:
    """Bytes from a number, or a text such as "1.5GiB", "800MB" or "2G"; raises UsageError."""
    number = whole(amount, 1)
    if number is not None:
        return number
    found = _TEXT.fullmatch(amount) if isinstance(amount, str) else None
    value = 0 if found is None else int(float(found[1]) * _UNITS[(found[2] or "").lower()])
    if value < 1:
        raise UsageError(
            f"memory {amount!r}: expected bytes, or an amount such as 2GiB, 800MB or 1.5G"
        )
    return value


def format_bytes(amount: float) -> str:
    """For people: 1.5 GiB, 23 MiB, 4 KiB."""
    return _formatted(amount, round)


def sufficient_bytes(amount: float) -> str:
    """As `format_bytes`, but never less than `amount`: who allows what it says, allows enough."""
    return _formatted(math.ceil(amount), math.ceil)


def _formatted(amount: float, rounded: Callable[[float], int]) -> str:
    if amount >= 2**30:
        return f"{rounded(10 * amount / 2**30) / 10:.1f} GiB"
    for unit, size in (("MiB", 2**20), ("KiB", 2**10)):
        if amount >= size:
            return f"{rounded(amount / size)} {unit}"
    return f"{rounded(amount)} bytes"


class Allowance:
    """Bytes that several engines may take together, each of them when it is loaded."""

    def __init__(self, limit: int) -> None:
        self.limit = self.left = limit
        self._lock = Lock()

    def take(self, amount: int) -> bool:
        """Take so much of what is left; False, and nothing is taken, where that is too little."""
        with self._lock:
            if amount > self.left:
                return False
            self.left -= amount
            return True

    def give_back(self, amount: int) -> None:
        """What was taken is left again."""
        with self._lock:
            self.left += amount


def installed() -> float:
    """Bytes that the machine has; infinite where it does not tell."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return math.inf


def resident() -> int | None:
    """Bytes of main memory that this process holds; None where the system does not tell."""
    held = in_status("VmRSS")
    if held is not None:
        return held
    try:
        return int(import_module("psutil").Process().memory_info().rss)
    except ImportError:
        return None


def in_status(field: str) -> int | None:
    """Bytes that Linux tells of this process under a name such as VmRSS; None elsewhere."""
    if not _STATUS.is_file():
        return None
    text = _STATUS.read_text(encoding="ascii", errors="replace")  # a program may have any name
    found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
    return None if found is None else int(found.group(1)) << 10
