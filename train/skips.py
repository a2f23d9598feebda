"""Files that cannot be read in the middle of a run: left out, named, counted; many: refused."""

from __future__ import annotations

import logging

import torch

from allfocus.runtime.errors import InputError

SHARE = 0.01  # of all files: more than that is no accident
_LOG = logging.getLogger("allfocus.train")


class Skips:
    """Which of `total` items could not be read; one count for all of a loader's processes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._flags = torch.zeros(total, dtype=torch.uint8)
        self._flags.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def count(self) -> int:
        """How many items were left out so far."""
        return int(self._flags.sum())

    def add(self, index: int, error: InputError) -> None:
        """Leave item `index` out, and say so once; raises InputError where over 1 % are out."""
        if self._flags[index]:
            return
        self._flags[index] = 1
        if self.count > SHARE * self.total:
            raise InputError(
                f"{self.count} of {self.total} training files cannot be used, more than "
                f"{SHARE:.0%}; the last: {error}. Run `allfocus data check` on the folder"
            )
        _LOG.warning("%s (left out; %d of %d so far)", error, self.count, self.total)
