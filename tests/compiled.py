"""C++ for the CPU, compiled once for all processes of a run, and anew where it changed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from allfocus.runtime.files import publish
from allfocus.runtime.lock import locked

ROOT = Path(__file__).parent.parent
_PLACE = ROOT / "out" / "compiled"


def compile_library(command: Sequence[str | Path], library: Path) -> Path:
    """Run g++ with the arguments `command`, to make `library`."""
    words = ["g++", *map(str, command), "-o", str(library)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return library


def compiled_once(command: Sequence[str | Path], name: str, included: Sequence[Path]) -> Path:
    """The library `name` of that command, where neither the arguments, the files among them, those
    in the folders `included`, nor the compiler have changed since it was made.
    """
    digest = hashlib.sha256(repr([str(word) for word in command]).encode())
    version = subprocess.run(["g++", "--version"], capture_output=True, check=True, timeout=60)
    digest.update(version.stdout)
    given = [word for word in command if isinstance(word, Path) and word.is_file()]
    for path in given + [path for folder in included for path in sorted(folder.iterdir())]:
        if path.is_file():
            digest.update(path.read_bytes())
    folder = _PLACE / f"{name}-{digest.hexdigest()[:16]}"
    with locked(_PLACE / f"{name}.lock", lambda: None):
        if not (folder / name).exists():
            for old in _PLACE.glob(f"{name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            with publish(folder / name) as draft:
                compile_library(command, draft)
    return folder / name
