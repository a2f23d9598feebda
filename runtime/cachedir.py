"""The folder that `allfocus export` fills with engines and ONNX files for `allfocus.load`."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """$ALLFOCUS_CACHE, else $XDG_CACHE_HOME/allfocus, else ~/.cache/allfocus; need not exist.

    Empty variables count as unset, and so does a relative XDG_CACHE_HOME, as its standard asks.
    """
    own = os.environ.get("ALLFOCUS_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else Path.home() / ".cache") / "allfocus"
