"""Watching a folder: each picture is done once, when it has come whole."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from allfocus.runtime.arrivals import Arrivals, Lookout, can_be_read, identity_of
from allfocus.runtime.errors import AllfocusError, BackendError, InputError, LimitError
from allfocus.runtime.in_hand import InHand
from allfocus.runtime.jobs import Job, Naming, job_for
from allfocus.runtime.ledger import Identity, Ledger
from allfocus.runtime.work import Done, Failure

_LATER = 30.0  # seconds until what cannot be done for now is tried again
_SLICE = 0.1  # seconds of sleep between questions whether to stop
_BROKEN = 3  # pictures in a row that the engine fails on before it is taken to be broken


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
        self._work, self._tell, self._stopping = work, tell, stopping
        self._in_hand = InHand(plan.out, plan.folder)
        self._arrivals = Arrivals(ledger.finished, plan.settle, last=self._in_hand.suspect)
        self._lookout = Lookout(
            plan.folder,
            plan.out,
            recursive=plan.recursive,
            every=plan.every,
            patient=not plan.once,
            say=say,
        )
        self._told: set[tuple[str, Identity]] = set()  # what was reported and is tried again
        self._broken: set[str] = set()  # pictures the engine failed on since it did one
        self._handled = 0  # done, failed or refused
        self.failures = 0

    def run(self) -> None:
        """Watch until `stopping`, or with `once` until everything was tried.

        Raises AllfocusError where outputs cannot be written, the engine does no picture, or with
        `once` the folder cannot be read.
        """
        # `disable=None`: no bar where stderr is not a terminal
        with tqdm(total=0, unit="picture", disable=None) as bar:
            while not self._stopping():
                self._lookout.tell(self._arrivals)
                taken = self._arrivals.next()
                if taken is not None:
                    self._take(*taken)
                elif self._plan.once and (self._lookout.away or not self._expected()):
                    self._lookout.check()
                    break
                else:
                    self._rest(bar)
                self._show(bar)

    def _expected(self) -> bool:
        return self._arrivals.expected(time.monotonic())

    def _rest(self, bar: Any) -> None:
        time.sleep(max(0.0, min(_SLICE, self._lookout.due - time.monotonic())))
        if not self._arrivals:
            bar.unpause()  # such waiting says nothing about how long a picture takes

    def _show(self, bar: Any) -> None:
        known = self._handled + len(self._arrivals)
        if known != bar.total:
            bar.total = known
            bar.refresh()
        bar.update(self._handled - bar.n)

    def _take(self, name: str, identity: Identity) -> None:
        """Do one picture, record and report it."""
        plan = self._plan
        job = job_for(plan.folder / name, plan.out / name, plan.naming)
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
        return job_for(job.source, self._ledger.draft().with_suffix(job.target.suffix), naming)

    def _do(self, name: str, identity: Identity, job: Job, draft: Job) -> Done | None:
        """Make and publish one picture; None where it is gone or another by now."""
        if identity_of(job.source) != identity:
            return None
        for output in job.outputs():
            self._check_place(name, output)
        with self._in_hand.holding(name, identity):
            done = self._work(draft)
        if identity_of(job.source) != identity:
            return None
        self._ledger.done(name, identity, dict(zip(draft.outputs(), job.outputs(), strict=True)))
        self._handled += 1
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
                "folder, add --suffix=-sharp, or allow it with --overwrite"
            )

    def _failure(
        self, name: str, identity: Identity, job: Job, error: AllfocusError
    ) -> Failure | None:
        """What to report. Only what is wrong with the picture itself is recorded.

        What a limit refuses would be refused again until the next start, which may have another.
        """
        if not isinstance(error, InputError | NotNowError | BackendError):
            raise error
        if identity_of(job.source) != identity:
            return None
        if isinstance(error, InputError) and can_be_read(job.source):
            if isinstance(error, LimitError):
                self._ledger.refused(name, identity)
            else:
                self._ledger.failed(name, identity, str(error))
            self._handled += 1
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
