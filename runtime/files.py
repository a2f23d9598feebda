"""Files that are either whole or not there: written beside their place and renamed into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from allfocus.runtime.errors import AllfocusError


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; rename it to `path` at the end, or remove it.

    Raises AllfocusError where the folder cannot be written or the disk is full; then, and on any
    other error or Ctrl-C, nothing half-written stays and a former `path` is left as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes it private, and so do some writers
        temporary.replace(path)
    except OSError as error:
        raise AllfocusError(
            f"cannot write {path}: {error.strerror or error}; free some space there, or choose "
            "another place with --out"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
