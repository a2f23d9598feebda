"""Pictures of a data set kept decoded on disk: a crop of one is read without the rest.

Decoding a pair as large as DPDD's takes 0.3 s of a core, for a crop of a hundredth of it.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.files import publish

_LOG = logging.getLogger("allfocus.train")


class Decoded:
    """Arrays in `folder`, each written when its file is read for the first time; None: none is.

    A file that has changed since is read again. Processes may share a folder. Where it cannot be
    written, or the disk is full, the rest is decoded each time, which is told once.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._full = False

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
        if self._folder is None:
            return None
        try:
            found = path.stat()
        except OSError:
            return None  # reading it says what is wrong
        said = f"{path.resolve()}\n{found.st_size}\n{found.st_mtime_ns}\n{how}"
        return self._folder / f"{path.stem}-{hashlib.sha256(said.encode()).hexdigest()[:16]}.npy"

    def _keep(self, place: Path, array: NDArray[Any]) -> None:
        if self._full:
            return
        try:
            with publish(place, option="--cache") as draft:
                np.save(draft, array)
        except AllfocusError as error:
            self._full = True
            _LOG.warning("%s; what is not there yet is decoded for each crop", error)
