"""What `allfocus watch` has done: a file from which a watch that was killed goes on exactly.

All that a watch keeps for itself stands in OUT/.allfocus-watch: `ledger.jsonl`, `drafts`, `lock`,
and `in-hand` (see there), which says nothing about what is done.
One picture is one line of the ledger, and that line is the moment in which it becomes done:

1. its outputs are written as drafts, whole and forced to the disk;
2. the line, which says where each draft belongs, is appended and forced to the disk;
3. each draft is renamed to its place.

Killed before the line is whole: nobody has seen an output. The next start cuts off what is there
of the line, removes the drafts that no line names, and the picture is done then. Killed after it:
the next start makes up for the renames. A draft that is there was not renamed yet, one that is gone
was: so nothing is written a second time, not even where somebody has taken the output away
meanwhile. The name of a draft holds the number of its line: it is never taken for that of another.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.files import sync, writing

FOLDER = ".allfocus-watch"  # below OUT; hidden, so that no stage takes it for pictures
_writing = partial(
    writing,
    advice="see that it is there, writable and not full, and start again, or choose another --out",
)


class Identity(NamedTuple):
    """What tells a picture from a later one of the same name."""

    size: int  # bytes
    mtime_ns: int


class Ledger:
    """The record of one output folder. Whoever opens it holds the lock of that folder.

    `finished` has every picture that was done, has failed or was refused, by its name below the
    watched folder ("/" between its parts), as it was then. `owners` has the picture that each
    output was made from, by the output's name below OUT.
    """

    def __init__(self, out: Path, watched: Path) -> None:
        """Open or begin the ledger of `out`, and finish what a kill left unfinished there.

        Raises UsageError where it belongs to another folder than `watched`, and AllfocusError where
        it is damaged or cannot be written.
        """
        self.finished: dict[str, Identity] = {}
        self.owners: dict[str, str] = {}
        self._out = out
        self._path = out / FOLDER / "ledger.jsonl"
        self._drafts = out / FOLDER / "drafts"
        self._lines = 0
        with _writing(self._path):
            self._drafts.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            lines = _whole_lines(self._path)
        moves = self._read(lines, os.path.realpath(watched))
        self._finish(moves)

    def draft(self) -> Path:
        """Where the outputs of the next picture are written, but for an extension."""
        return self._drafts / str(self._lines)

    def done(self, name: str, identity: Identity, outputs: Mapping[Path, Path]) -> None:
        """Record a picture and publish its outputs, given as the place of each draft.

        Raises AllfocusError where OUT cannot be written; what is missing then follows at the next
        start, or the picture does not count as done.
        """
        files = {d.name: o.relative_to(self._out).as_posix() for d, o in outputs.items()}
        with _writing(self._path):
            for draft in outputs:
                sync(draft)
            sync(self._drafts)
        self._append({**_about(name, identity), "outcome": "done", "files": files})
        for name_of_draft, output in files.items():
            self._move(name_of_draft, output)
        self.finished[name] = identity
        self.owners.update(dict.fromkeys(files.values(), name))

    def failed(self, name: str, identity: Identity, error: str) -> None:
        """Record a picture that cannot be done as it is."""
        self._append({**_about(name, identity), "outcome": "failed", "error": error})
        self.finished[name] = identity

    def refused(self, name: str, identity: Identity) -> None:
        """Leave a picture alone until the next start, whose options may allow it."""
        self.finished[name] = identity

    def discard(self, drafts: Sequence[Path]) -> None:
        """Remove what was written of a picture that is not recorded."""
        for draft in drafts:
            with suppress(OSError):  # the next start removes what is left
                draft.unlink(missing_ok=True)

    def _read(self, lines: Sequence[bytes], watched: str) -> dict[str, str]:
        """Take in all lines, or begin with the first; the last draft of each output."""
        moves: dict[str, str] = {}
        before = watched
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if number == 1:
                    before = entry["watched"]
                else:
                    self._take(entry, moves)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise AllfocusError(
                    f"{self._path}: line {number} is damaged, so what was done is not known: mend "
                    "it, or remove that file and the outputs, and all is done again"
                ) from error
        self._check(before, watched)
        self._lines = len(lines)
        if not lines:
            self._append({"watched": watched})
        return moves

    def _check(self, before: str, now: str) -> None:
        """Refuse another folder: its pictures may have the same names."""
        if before != now:
            raise UsageError(
                f"{self._out} has the outputs of {before}, and those of {now} could be written "
                "over them: choose another --out; where the folder was only moved, change its "
                f"name in the first line of {self._path}"
            )

    def _take(self, entry: dict[str, Any], moves: dict[str, str]) -> None:
        name = entry["picture"]
        self.finished[name] = Identity(entry["size"], entry["mtime_ns"])
        for draft, output in entry.get("files", {}).items():
            self.owners[output] = name
            moves[output] = draft

    def _finish(self, moves: Mapping[str, str]) -> None:
        """Make up for the renames before which a watch was killed; remove all other drafts."""
        with _writing(self._drafts):
            standing = {draft.name for draft in self._drafts.iterdir()}
        for output, draft in moves.items():
            if draft in standing:
                self._move(draft, output)
        with _writing(self._drafts):
            shutil.rmtree(self._drafts)
            self._drafts.mkdir()

    def _move(self, draft: str, output: str) -> None:
        path = self._out / output
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            (self._drafts / draft).replace(path)

    def _append(self, entry: Mapping[str, Any]) -> None:
        # "r+": where somebody removed the ledger, it must not begin anew unseen
        with _writing(self._path), self._path.open("r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._lines += 1


def _about(name: str, identity: Identity) -> dict[str, Any]:
    return {"picture": name, **identity._asdict()}


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a file, from which one without an end is cut off."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)
    return data[:whole].splitlines()
