"""Files that are either whole or not there: written beside their place and renamed into it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from allfocus.runtime.errors import AllfocusError, UsageError

_MARK = "-allfocus-"  # tells a draft from a hidden file of somebody else, such as .a-original.jpg
# After the mark come eight characters, then the suffix of `path`.
_DRAFT = re.compile(rf"(\..*{_MARK})[a-z0-9_]{{8}}(\.[^.]*)?", re.DOTALL)

_LONGEST = 255  # bytes of a name, on nearly all file systems (NTFS and APFS: characters)
_DIGEST = 16

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_MISNAMED = (errno.ENAMETOOLONG, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


@contextmanager
def publish(path: Path, *, durable: bool = False, option: str = "--out") -> Iterator[Path]:
    """Yield a temporary file beside `path`; rename it to `path` at the end, or remove it.

    `durable`: it is forced to the disk first, so that a machine that dies leaves a whole file, the
    former or the new, and an error that a disk tells only then is told. That takes some 10 ms: too
    long for each of many pictures. `option` of the command says where `path` is.

    Raises AllfocusError where the folder cannot be written or the disk is full; then, and on any
    other error or Ctrl-C, nothing half-written stays and a former `path` is left as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.absolute().with_name(f"{_prefix(path)}{secrets.token_hex(4)}{path.suffix}")
        draft.touch(exist_ok=False)
        temporary = draft
        # The umask has its say in a new file. To ask for it would be to change it for all threads.
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        temporary.chmod(mode)  # some writers make it private
        if durable:
            sync(temporary)
        temporary.replace(path)
        if durable:
            with suppress(OSError):  # some file systems refuse it for folders
                sync(path.absolute().parent)
    except OSError as error:
        advice = f"{_remedy(error)}, or choose another place with {option}"
        raise AllfocusError(f"cannot write {path}: {error.strerror or error}; {advice}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _remedy(error: OSError) -> str:
    """What to do about an error of writing, before one goes elsewhere."""
    if error.errno in _FORBIDDEN:
        return "make the place writable for yourself"
    if error.errno in _MISNAMED:
        return "see that the name is right"
    return "free some space there"


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk; on Windows only files."""
    flags = os.O_RDONLY
    if sys.platform == "win32":
        if path.is_dir():
            return
        flags = os.O_RDWR  # it takes only files that are open for writing
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path, advice: str) -> Iterator[None]:
    """Turn an OSError into an error for the person who reads it: `advice` says what to do."""
    try:
        yield
    except OSError as error:
        raise AllfocusError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def check_folder(out: Path, option: str = "--out") -> None:
    """Raise UsageError where the folder of `option` is, or would lie in, a file."""
    above = next(path for path in (out, *out.parents) if path.exists())
    if not above.is_dir():
        raise UsageError(
            f"{option} {out}: {above} is a file, where a folder was expected; give another {option}"
        )


def remove_old_drafts(folder: Path, seconds: float = 3600.0) -> None:
    """Remove what a killed `publish` of anything left in `folder`, where nobody has written to it
    for so long; other processes may be writing theirs. What cannot be removed stays.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _DRAFT.fullmatch(path.name) and time.time() - path.stat().st_mtime > seconds:
                path.unlink(missing_ok=True)


def remove_drafts(paths: Iterable[Path]) -> None:
    """Remove what a `publish` of any of `paths` that was killed has left half-written.

    Raises AllfocusError where a folder cannot be read, or a draft not be removed.
    """
    drafts: dict[Path, set[tuple[str, str]]] = {}
    for path in paths:
        drafts.setdefault(path.parent, set()).add((_prefix(path), path.suffix))
    for folder, wanted in drafts.items():  # each is read once, however many pictures are in it
        try:
            for path in folder.iterdir() if folder.is_dir() else ():
                found = _DRAFT.fullmatch(path.name)
                if found and (found[1], found[2] or "") in wanted:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise AllfocusError(
                f"cannot remove half-written files from {folder}: {error.strerror or error}; make "
                "the folder writable, or choose another place with --out"
            ) from error


def _prefix(path: Path) -> str:
    """How the name of each draft of `path` begins: as its own, but for one so long that no name of
    a file could hold more; there a digest says whose it is.
    """
    stem, room = os.fsencode(path.stem), _LONGEST - len(os.fsencode(f".{_MARK}{path.suffix}")) - 8
    if len(stem) > room:
        digest = hashlib.sha256(stem).hexdigest()[:_DIGEST]
        return f".{stem[: max(0, room - _DIGEST)].decode(errors='ignore')}{digest}{_MARK}"
    return f".{path.stem}{_MARK}"
