"""One writer of a folder at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from allfocus.runtime.errors import UsageError
from allfocus.runtime.lock import locked

_POLL = 0.25  # seconds between looks at a lock that may be let go of


@contextmanager
def alone(out: Path, command: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold the folder `out`, which is made, against every other `command`.

    Raises UsageError where one writes there after `patience` seconds still, AllfocusError where the
    folder cannot be written to. A folder that was made for this and stays empty is removed.
    """
    made = not out.exists()
    with ExitStack() as at_end:
        if made:
            at_end.callback(_remove_empty, out)
        _hold(at_end, out, command, time.monotonic() + patience)
        yield


def _hold(held: ExitStack, out: Path, command: str, until: float) -> None:
    def refuse() -> None:
        raise UsageError(
            f"--out {out}: another `allfocus {command}` writes there; wait for it, or stop it, or "
            "give another --out"
        )

    lock = out / f".allfocus-{command.rpartition(' ')[2]}.lock"
    while True:
        try:
            held.enter_context(locked(lock, refuse, advice="give another --out"))
            return
        except UsageError:
            if time.monotonic() >= until:
                raise
        time.sleep(_POLL)


def _remove_empty(out: Path) -> None:
    with suppress(OSError):  # it holds something, or is gone
        out.rmdir()
