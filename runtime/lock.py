"""One maker at a time: a lock between processes, on a file beside what is made."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from allfocus.runtime.errors import AllfocusError

_POLL = 0.2  # seconds between looks at a lock that another process holds
_CACHE = "choose another place with --out, or set ALLFOCUS_CACHE"


@contextmanager
def locked(path: Path, waiting: Callable[[], None], *, advice: str = _CACHE) -> Iterator[None]:
    """Hold the lock file `path`, which is removed at the end; a process that dies lets go of it.

    Calls `waiting` once where another holds it. Raises AllfocusError where its folder cannot be
    made or written to, or has no locks, with `advice` on what to do then.
    """
    file = _acquire(path, waiting, advice)
    try:
        yield
    finally:
        if sys.platform != "win32":  # there, an open file cannot be removed, and the lock stays
            path.unlink(missing_ok=True)
        file.close()


def _acquire(path: Path, waiting: Callable[[], None], advice: str) -> IO[bytes]:
    """Open and lock `path`; where its holder removed it meanwhile, the one that is there now."""
    told = False
    while True:
        file = _open(path, advice)
        while not _taken(file, path, advice):
            if not told:
                waiting()
                told = True
            time.sleep(_POLL)
        if _is_at(file, path):
            return file
        file.close()


def _taken(file: IO[bytes], path: Path, advice: str) -> bool:
    try:
        return _try_lock(file)
    except OSError as error:
        file.close()
        raise AllfocusError(
            f"cannot lock {path}: {error.strerror or error}; this storage has no locks, as some "
            f"network folders: mount it with them, or {advice}"
        ) from error


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _open(path: Path, advice: str) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError as error:
        raise AllfocusError(
            f"cannot write to {path.parent}: {error.strerror or error}; {advice}"
        ) from error


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[bytes]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
