"""What is left of a batch that was killed: which files it wrote how often, and who still runs."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import psutil

_MOVED_TO = 0x80
_HEAD = struct.Struct("iIII")  # struct inotify_event, without its name


class Renames:
    """The names that files get in `folder` by a rename, from the `with` on; needs inotify."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._file = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        watch = libc.inotify_add_watch(self._file, os.fsencode(folder), _MOVED_TO)
        if min(self._file, watch) < 0:
            raise OSError(ctypes.get_errno(), "inotify", str(folder))

    def __enter__(self) -> Renames:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def names(self) -> list[str]:
        """Those since the last call, one for each time."""
        found = []
        while True:
            try:
                data = os.read(self._file, 65536)
            except BlockingIOError:
                return found
            while data:
                size = _HEAD.unpack_from(data)[3]
                name = data[_HEAD.size : _HEAD.size + size]
                found.append(os.fsdecode(name.rstrip(b"\0")))
                data = data[_HEAD.size + size :]


def running_after(seconds: float, processes: Iterable[psutil.Process]) -> list[str]:
    """The names of those of `processes` that still run then; they are ended."""
    limit = time.monotonic() + seconds
    left = list(processes)
    while left and time.monotonic() < limit:
        time.sleep(0.02)
        left = [each for each in left if _runs(each)]
    names = [f"{each.pid} {each.name()}" for each in left]
    for each in left:
        each.kill()
    return names


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
