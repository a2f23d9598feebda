"""Whether files are those of another time, told without reading pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from allfocus.train.store import ABOUT

Files = Collection[Path]


def fingerprint(folder: Path, files: Files) -> str:
    """Of the files' names relative to `folder`, and their sizes; a moved folder keeps its own."""
    lines = sorted(f"{os.path.relpath(file, folder)} {_size(file)}" for file in set(files))
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]


def rendering(files: Files) -> str:
    """Of the page that says how `files` were rendered: another seed gives the same names and sizes.

    Empty where they are not rendered.
    """
    page = next((file for file in files if file.name == ABOUT), None)
    return hashlib.sha256(_content(page)).hexdigest()[:16] if page else ""


def _content(page: Path) -> bytes:
    """Empty where it cannot be read, which is for whoever reads the samples to report."""
    try:
        return page.read_bytes()
    except OSError:
        return b""


def _size(file: Path) -> int:
    """In bytes; -1 where it cannot be told, which is for whoever reads the file to report."""
    try:
        return file.stat().st_size
    except OSError:
        return -1
