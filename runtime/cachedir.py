"""The folder that `allfocus export` fills with engines and ONNX files for `allfocus.load`."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from allfocus.runtime.errors import UsageError


def cache_dir() -> Path:
    """$ALLFOCUS_CACHE, else $XDG_CACHE_HOME/allfocus, else ~/.cache/allfocus; need not exist.

    Empty variables count as unset, and so does a relative XDG_CACHE_HOME, as its standard asks. A
    user without a home, as in a container, has a folder among the temporary ones. Raises UsageError
    where that cannot be trusted, since what lies there is run.
    """
    own = os.environ.get("ALLFOCUS_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():
        return shared / "allfocus"
    try:
        return Path.home() / ".cache" / "allfocus"
    except RuntimeError:  # neither the environment nor the system knows one
        return _own_temporary()


def _own_temporary() -> Path:
    """A folder that this user alone may write to."""
    user = os.getuid()
    folder = Path(tempfile.gettempdir()) / f"allfocus-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}; {_ADVICE}") from None
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != user or about.st_mode & 0o022:
        raise UsageError(f"{folder}: others may write there; {_ADVICE}")
    return folder


_ADVICE = "this user has no home folder, so set ALLFOCUS_CACHE to a folder of its own"
