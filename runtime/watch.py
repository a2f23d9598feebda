"""Watching a folder: each picture is done once, when it has come whole."""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from allfocus.runtime.deblur_command import Done, Failure
from allfocus.runtime.errors import AllfocusError, BackendError, InputError
from allfocus.runtime.jobs import Job, Naming, _job
from allfocus.runtime.ledger import Identity, Ledger
from allfocus.runtime.pictures.formats import SUFFIXES

Trouble = Callable[[Path, OSError], None]

_LATER = 30.0  # seconds until what cannot be done for now is tried again
_LONGEST = 30.0  # seconds between looks for a folder that is gone
_SHARE = 0.1  # of the time may go into looking: large folders are looked at less often
_SLICE = 0.1  # seconds of sleep between questions whether to stop
_BROKEN = 3  # pictures in a row that the engine fails on before it is taken to be broken


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


class Arrivals:
    """Pictures that are to be done: settling first, then ready, in the order of their coming.

    A picture is settled when two looks that are `settle` seconds apart have seen it alike, whatever
    its mtime is: the clock of a network share may be another than ours. `finished` are those that
    are not to be done, as they were.
    """

    def __init__(self, finished: Mapping[str, Identity], settle: float) -> None:
        self._finished = finished
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
        return self._ready.popitem(last=False) if self._ready else None

    def postpone(self, name: str, identity: Identity, until: float) -> None:
        """Let a picture settle again, from `until` on."""
        self._settling[name] = (identity, until)

    def expected(self, now: float) -> bool:
        """Whether any is ready or settling, those aside that were postponed."""
        return bool(self._ready) or any(since <= now for _, since in self._settling.values())


class NotNowError(AllfocusError):
    """A picture that is in order but cannot be done for now; it is tried again later."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to watch, and how."""

    folder: Path
    out: Path
    naming: Naming
    recursive: bool
    overwrite: bool  # files in `out` that no picture of this watch became
    every: float  # seconds between looks
    settle: float  # seconds that a picture has to stay as it is
    once: bool  # stop when everything that is there was tried


class Watch:
    """The loop: look, do the next picture, until told to stop.

    `work` does one Job, `tell` reports what became of it, `say` prints a message. `stopping` is
    asked before each picture, and ten times a second while there is nothing to do.
    """

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        *,
        work: Callable[[Job], Done],
        tell: Callable[[Done | Failure], None],
        say: Callable[[str], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._plan, self._ledger = plan, ledger
        self._work, self._tell, self._say, self._stopping = work, tell, say, stopping
        self._arrivals = Arrivals(ledger.finished, plan.settle)
        self._next_look = 0.0
        self._pause = 0.0  # seconds between looks for a folder that is gone
        self._told: set[object] = set()  # what was reported and is tried again
        self._broken: set[str] = set()  # pictures the engine failed on since it did one
        self._recorded = 0
        self.failures = 0

    def run(self) -> None:
        """Watch until `stopping`, or with `once` until everything was tried.

        Raises AllfocusError where outputs cannot be written, or the engine does no picture.
        """
        # `disable=None`: no bar where stderr is not a terminal
        with tqdm(total=0, unit="picture", disable=None) as bar:
            while not self._stopping():
                if time.monotonic() >= self._next_look:
                    self._look()
                taken = self._arrivals.next()
                if taken is not None:
                    self._take(*taken)
                elif self._plan.once and not self._pause and not self._expected():
                    break
                else:
                    self._rest(bar)
                self._show(bar)

    def _expected(self) -> bool:
        return self._arrivals.expected(time.monotonic())

    def _rest(self, bar: Any) -> None:
        time.sleep(max(0.0, min(_SLICE, self._next_look - time.monotonic())))
        if not self._arrivals:
            bar.unpause()  # such waiting says nothing about how long a picture takes

    def _show(self, bar: Any) -> None:
        known = self._recorded + len(self._arrivals)
        if known != bar.total:
            bar.total = known
            bar.refresh()
        bar.update(self._recorded - bar.n)

    def _look(self) -> None:
        plan, began = self._plan, time.monotonic()
        try:
            found = look(plan.folder, plan.out, recursive=plan.recursive, trouble=self._pass_over)
        except OSError as error:
            self._wait_for_folder(error)
            return
        if self._pause:
            self._say(f"{plan.folder} is there again")
        self._pause = 0.0
        ended = time.monotonic()
        self._arrivals.see(found, began, ended)
        self._next_look = ended + max(plan.every, (ended - began) / _SHARE)

    def _wait_for_folder(self, error: OSError) -> None:
        """Look again after 1, 2, 4 ... seconds."""
        if not self._pause:
            why = error.strerror or error
            self._say(f"{self._plan.folder} cannot be read ({why}); waiting until it can")
        self._pause = min(2 * self._pause or 1.0, _LONGEST)
        self._next_look = time.monotonic() + self._pause

    def _pass_over(self, folder: Path, error: OSError) -> None:
        """Say once that one of the folders below cannot be read."""
        if folder not in self._told:
            self._told.add(folder)
            self._say(f"{folder} cannot be read ({error.strerror or error}); passing over it")

    def _take(self, name: str, identity: Identity) -> None:
        """Do one picture, record and report it."""
        plan = self._plan
        job = _job(plan.folder / name, plan.out / name, plan.naming)
        draft = self._draft(job)
        outcome: Done | Failure | None
        try:
            outcome = self._do(name, identity, job, draft)
        except AllfocusError as error:
            outcome = self._failure(name, identity, job, _renamed(error, draft, job))
        if outcome is None:
            self._ledger.discard(draft.outputs())
        else:
            self._tell(outcome)
            self.failures += isinstance(outcome, Failure)

    def _draft(self, job: Job) -> Job:
        """The same, written where the ledger publishes from."""
        naming = replace(self._plan.naming, suffix="")
        return _job(job.source, self._ledger.draft().with_suffix(job.target.suffix), naming)

    def _do(self, name: str, identity: Identity, job: Job, draft: Job) -> Done | None:
        """Make and publish one picture; None where it is gone or another by now."""
        if identity_of(job.source) != identity:
            return None
        for output in job.outputs():
            self._check_place(name, output)
        done = self._work(draft)
        if identity_of(job.source) != identity:
            return None
        self._ledger.done(name, identity, dict(zip(draft.outputs(), job.outputs(), strict=True)))
        self._recorded += 1
        self._broken.clear()
        return replace(done, job=job)

    def _check_place(self, name: str, output: Path) -> None:
        """Refuse to write over what is of another picture, or not of this watch."""
        owner = self._ledger.owners.get(output.relative_to(self._plan.out).as_posix())
        if owner not in (None, name):
            raise NotNowError(
                f"{self._plan.folder / name}: {output} was made from {owner}; rename one of the two"
            )
        try:
            is_folder = stat.S_ISDIR(output.lstat().st_mode)
        except FileNotFoundError:
            return
        except OSError as error:  # a name that is too long, or a file where a folder should be
            raise NotNowError(f"cannot write {output}: {error.strerror or error}") from error
        if is_folder or (owner is None and not self._plan.overwrite):
            raise NotNowError(
                f"{output} is there already, and not from this watch: move it away, choose another "
                "folder, add a --suffix=-sharp, or allow it with --overwrite"
            )

    def _failure(
        self, name: str, identity: Identity, job: Job, error: AllfocusError
    ) -> Failure | None:
        """What to report. Only what is wrong with the picture itself is recorded."""
        of_the_picture = _is_of_the_picture(error)
        if not (of_the_picture or isinstance(error, NotNowError | BackendError)):
            raise error
        if identity_of(job.source) != identity:
            return None
        if of_the_picture and _can_be_read(job.source):
            self._ledger.failed(name, identity, str(error))
            self._recorded += 1
            return Failure(job, error)
        if isinstance(error, BackendError):
            self._broken.add(name)
            if len(self._broken) >= _BROKEN:
                raise error
        self._arrivals.postpone(name, identity, time.monotonic() + _LATER)
        if (name, identity) in self._told:
            return None
        self._told.add((name, identity))
        return Failure(job, error)


def _renamed(error: AllfocusError, draft: Job, job: Job) -> AllfocusError:
    """The error of a draft that could not be encoded, with the name that the reader knows."""
    if error.__cause__ is not None or str(draft.target) not in str(error):
        return error
    return type(error)(str(error).replace(str(draft.target), str(job.target)))


def _is_of_the_picture(error: AllfocusError) -> bool:
    """Whether it is the picture that cannot be processed, and not the disk or the engine."""
    cannot_encode = type(error) is AllfocusError and not isinstance(error.__cause__, OSError)
    return isinstance(error, InputError) or cannot_encode


def _can_be_read(path: Path) -> bool:
    """Whether all bytes can be had: where they cannot, what came says nothing about the picture."""
    try:
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass
    except OSError:
        return False
    return True
