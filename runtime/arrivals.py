"""What arrives in a folder: which pictures are there, and which of them have come whole."""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.ledger import Identity
from allfocus.runtime.pictures.formats import SUFFIXES

Trouble = Callable[[Path, OSError], None]

_LONGEST = 30.0  # seconds between looks for a folder that is gone
_SHARE = 0.1  # of the time may go into looking: large folders are looked at less often


def look(
    folder: Path, leave_out: Path, *, recursive: bool, trouble: Trouble
) -> dict[str, Identity]:
    """Every picture in `folder` by its name below it, "/" between its parts.

    Hidden files and folders, links to folders and the folder `leave_out` are passed over; names
    that writers use for a while, such as x.png.part, are no pictures by their suffix. Raises
    OSError where `folder` cannot be read, and calls `trouble` for a folder below it.
    """
    top, without = (os.path.normcase(os.path.realpath(path)) for path in (folder, leave_out))
    found: dict[str, Identity] = {}
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            folders = _look_into(f"{top}/{below}", below, found)
        except OSError as error:
            if not below:
                raise
            if not isinstance(error, FileNotFoundError):  # removed meanwhile
                trouble(folder / below, error)
            continue
        if recursive:
            pending += [f for f in folders if Path(os.path.normcase(f"{top}/{f}")) != Path(without)]
    return found


def _look_into(path: str, below: str, found: dict[str, Identity]) -> list[str]:
    """Put the pictures of one folder into `found`; the names of the folders in it."""
    folders = []
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{below}{entry.name}/")
            elif entry.name.lower().endswith(SUFFIXES):
                identity = identity_of(entry.path)
                if identity is not None:
                    found[below + entry.name] = identity
    return folders


def identity_of(path: str | Path) -> Identity | None:
    """A file as it is now; None where none can be reached."""
    try:
        status = os.stat(path)  # noqa: PTH116 - for a hundred thousand names, without Paths
    except OSError:  # removed, a broken link, or a share that went away
        return None
    return Identity(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def can_be_read(path: Path) -> bool:
    """Whether all bytes can be had: where they cannot, what came says nothing about the picture."""
    try:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError:
        return False
    return True


class Arrivals:
    """Pictures that are to be done: settling first, then ready, in the order of their coming.

    A picture is settled when two looks that are `settle` seconds apart have seen it alike, whatever
    its mtime is: the clock of a network share may be another than ours. `finished` are those that
    are not to be done, as they were. `last` has its turn when no other is ready.
    """

    def __init__(
        self,
        finished: Mapping[str, Identity],
        settle: float,
        last: tuple[str, Identity] | None = None,
    ) -> None:
        self._finished, self._last = finished, last
        self._settle = settle
        self._settling: dict[str, tuple[Identity, float]] = {}  # as it is, and since when
        self._ready: OrderedDict[str, Identity] = OrderedDict()

    def __len__(self) -> int:
        return len(self._settling) + len(self._ready)

    def see(self, found: Mapping[str, Identity], began: float, ended: float) -> None:
        """Take in what was found by a look from `began` to `ended`, in seconds.

        What was not found any more is forgotten.
        """
        seen = ended if self._settle else began
        before, self._settling = self._settling, {}
        queued, self._ready = self._ready, OrderedDict()
        for name, identity in queued.items():
            if found.get(name) == identity:
                self._ready[name] = identity
        for name in sorted(n for n, i in found.items() if self._finished.get(n) != i):
            identity = found[name]
            if name not in self._ready:
                was, since = before.get(name, (identity, seen))
                self._settling[name] = (identity, since if was == identity else seen)
        self._promote(began)

    def _promote(self, began: float) -> None:
        """Make ready what a look that began then has seen as it was long enough before."""
        for name, (identity, since) in list(self._settling.items()):
            if began - since >= self._settle:
                self._ready[name] = identity
                del self._settling[name]

    def next(self) -> tuple[str, Identity] | None:
        """The picture whose turn it is, which is then no longer among these."""
        if not self._ready:
            return None
        name = next(iter(self._ready))
        if (name, self._ready[name]) == self._last:
            self._ready.move_to_end(name)
        return self._ready.popitem(last=False)

    def postpone(self, name: str, identity: Identity, until: float) -> None:
        """Let a picture settle again, from `until` on."""
        self._settling[name] = (identity, until)

    def expected(self, now: float) -> bool:
        """Whether any is ready or settling, those aside that were postponed."""
        return bool(self._ready) or any(since <= now for _, since in self._settling.values())


class Lookout:
    """Looks into a folder each `every` seconds, and less often where that takes long.

    Where the folder cannot be read it is `away`, and looked for again after 1, 2, 4 ... seconds;
    whoever is `patient` is told so. `due` is the time of the next look, by `time.monotonic`; `say`
    prints a message.
    """

    def __init__(
        self,
        folder: Path,
        out: Path,
        *,
        recursive: bool,
        every: float,
        patient: bool,
        say: Callable[[str], None],
    ) -> None:
        self._folder, self._out, self._recursive = folder, out, recursive
        self._every, self._patient, self._say = every, patient, say
        self._trouble = ""  # why it cannot be read, while it is away
        self._pause = 0.0  # seconds between looks then
        self._passed: set[Path] = set()  # folders below that could not be read
        self.due = 0.0

    @property
    def away(self) -> bool:
        """Whether the folder could not be read when it was last looked at."""
        return bool(self._trouble)

    def check(self) -> None:
        """Raise AllfocusError where the folder is away."""
        if self.away:
            raise AllfocusError(
                f"{self._trouble}, so that what else is there was not done: see that it is mounted "
                "and may be read, and start again"
            )

    def tell(self, arrivals: Arrivals) -> None:
        """Look where it is time to, and let `arrivals` see what is there."""
        began = time.monotonic()
        if began < self.due:
            return
        try:
            found = look(
                self._folder, self._out, recursive=self._recursive, trouble=self._pass_over
            )
        except OSError as error:
            self._wait(error)
            return
        if self.away and self._patient:
            self._say(f"{self._folder} is there again")
        self._trouble, self._pause = "", 0.0
        ended = time.monotonic()
        arrivals.see(found, began, ended)
        self.due = ended + max(self._every, (ended - began) / _SHARE)

    def _wait(self, error: OSError) -> None:
        was_away = self.away
        self._trouble = f"{self._folder} cannot be read ({error.strerror or error})"
        if self._patient and not was_away:
            self._say(f"{self._trouble}; waiting until it can")
        self._pause = min(2 * self._pause or 1.0, _LONGEST)
        self.due = time.monotonic() + self._pause

    def _pass_over(self, folder: Path, error: OSError) -> None:
        """Say once that one of the folders below cannot be read."""
        if folder not in self._passed:
            self._passed.add(folder)
            self._say(f"{folder} cannot be read ({error.strerror or error}); passing over it")
