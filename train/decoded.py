"""Pictures of a data set kept decoded on disk: a crop of one is read without the rest.

Decoding a pair as large as DPDD's takes 0.3 s of a core, for a crop of a hundredth of it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.files import publish, remove_old_drafts
from allfocus.runtime.memory import format_bytes

_LOG = logging.getLogger("allfocus.train")
_VERSION = 1  # of what the readers make of a file: to be raised with them
_ROOM = 2**30  # bytes left free on the disk, where a run's states may be written too


class Decoded:
    """Arrays in `folder`, each written when its file is read for the first time; None: none is.

    A file that has changed since, or was moved, is read again. Processes may share a folder. Where
    it cannot be written, or less than 1 GiB of its disk would stay free, the rest is decoded each
    time, which is told once.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._full = False
        if folder is not None:
            remove_old_drafts(folder)  # of runs that were killed

    def read(self, path: Path, read: Callable[[], NDArray[Any]], how: str = "") -> NDArray[Any]:
        """What `read` makes of `path`, maybe mapped from disk. `how`: what else it depends on.

        Raises what `read` does.
        """
        kept = self._place(path, how)
        if kept is None:
            return read()
        with suppress(OSError, ValueError, EOFError):  # not there, or cut short by a machine's end
            return np.asarray(np.load(kept, mmap_mode="r"))
        array = read()
        self._keep(kept, array)
        return array

    def _place(self, path: Path, how: str) -> Path | None:
        """Where the array is, or is to be."""
        if self.folder is None:
            return None
        try:
            found = path.stat()
        except OSError:
            return None  # reading it says what is wrong
        # Copying may keep a file's time, and its size says little of one that is not compressed.
        times = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        said = f"{_VERSION}\n{path.resolve()}\n{times}\n{how}"
        name = hashlib.sha256(said.encode(errors="surrogateescape")).hexdigest()
        return self.folder / f"{name[:32]}.npy"

    def _keep(self, place: Path, array: NDArray[Any]) -> None:
        if self._full:
            return
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(place.parent).free - array.nbytes < _ROOM:
                raise AllfocusError(
                    f"--cache {place.parent}: less than {format_bytes(_ROOM)} of that disk would "
                    "be left, which a run may need; free some space there, or choose another place"
                )
            with publish(place, option="--cache") as draft:
                np.save(draft, array)
        except (AllfocusError, OSError) as error:
            self._full = True
            _LOG.warning("%s; what is not there yet is decoded for each crop", error)
