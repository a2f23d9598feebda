"""Which picture a watch has in hand, so that the next start knows at which one it died.

Where the system ends a process for lack of memory, nothing is caught, and the same picture would
end every start. So OUT/.allfocus-watch/in-hand names a picture while it is worked on. One at which
the last start died is done last by the next one, and passed over after `DEADLY` deaths in a row.
A death may also have come by chance, such as a kill: so the start after tries it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from allfocus.runtime.errors import AllfocusError, LimitError
from allfocus.runtime.ledger import FOLDER, Identity

DEADLY = 3  # with none at another picture in between


class InHand:
    """The note of one output folder. Whoever opens it holds the lock of that folder.

    `suspect` is the picture at which the last start died.
    """

    def __init__(self, out: Path, watched: Path) -> None:
        self.suspect: tuple[str, Identity] | None = None
        self._path = out / FOLDER / "in-hand"
        self._watched = watched
        self._deaths = 0
        # Where there is no note, or half of one, too few deaths are known and never too many.
        with suppress(OSError, ValueError, LookupError, TypeError):
            note = json.loads(self._path.read_bytes())
            self._deaths = note["deaths"] + 1
            self.suspect = (note["picture"], Identity(note["size"], note["mtime_ns"]))

    @contextmanager
    def holding(self, name: str, identity: Identity) -> Iterator[None]:
        """Keep the note while a picture is worked on; what ends that in order removes it.

        Raises LimitError for the picture that is passed over.
        """
        deaths = self._deaths if (name, identity) == self.suspect else 0
        if deaths >= DEADLY:
            self._remove()
            raise LimitError(self._deadly(name, deaths))
        note = {"picture": name, **identity._asdict(), "deaths": deaths}
        with suppress(OSError):  # a full disk is told where it matters
            self._path.write_text(json.dumps(note), encoding="ascii")
        try:
            yield
        except (AllfocusError, KeyboardInterrupt):
            self._remove()
            raise
        self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _deadly(self, name: str, deaths: int) -> str:
        return (
            f"{self._watched / name}: {deaths} starts in a row died while they were at it, most "
            "likely for lack of memory, so this one passes it over: give less --memory, end other "
            "programs, allow this one more, or make the picture smaller; the next start tries again"
        )
