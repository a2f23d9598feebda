"""Files that cannot be read in the middle of a run: left out, named, counted; many: refused."""

from __future__ import annotations

import logging
from copy import copy

import torch

from allfocus.runtime.errors import InputError

SHARE = 0.01  # of all files: more than that is no accident
_LOG = logging.getLogger("allfocus.train")


class Skips:
    """Which of `total` items could not be read; one count for all of a loader's processes, and for
    all parts that the items are divided into.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._first = 0
        self._flags = torch.zeros(total, dtype=torch.uint8)
        self._flags.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def count(self) -> int:
        """How many items were left out so far."""
        return int(self._flags.sum())

    def part(self, first: int) -> Skips:
        """The same count for a part of the items, whose own number 0 is item `first` of all."""
        other = copy(self)  # with the flags themselves
        other._first = self._first + first
        return other

    def add(self, index: int, error: InputError) -> None:
        """Leave item `index` out, and say so once; raises InputError where over 1 % are out."""
        number = self._first + index
        if self._flags[number]:
            return
        self._flags[number] = 1
        if self.count > SHARE * self.total:
            raise InputError(
                f"{self.count} of {self.total} pictures or pairs cannot be used, more than "
                f"{SHARE:.0%}; the last: {error}. Run `allfocus data check` on the folder"
            )
        _LOG.warning("%s (left out; %d of %d so far)", error, self.count, self.total)
