"""Rendered samples as files: one array a part, mapped from disk, and a page that describes them.

A folder holds `blurry.npy` and `sharp.npy` (uint8 [N, S, S, 3], sRGB), `radius.npy` and `seen.npy`
(float16 [N, S, S], pixels; older folders have no `seen.npy`), where there are such `left.npy`,
`right.npy` and `moved.npy` like the first two, and, written last, `rendered.json`. Without that, it
is none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.runtime.files import check_folder, writing
from allfocus.train.synthetic import PICTURES, PLANES

ABOUT = "rendered.json"
NEEDED = ("blurry", "sharp", "radius")
PICTURE_BYTES, PLANE_BYTES = 3, 2  # a pixel
_ADVICE = "free some space, choose another --out, or a smaller --count"
_writing = partial(writing, advice=_ADVICE)
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Store:
    """The arrays of a folder by name; a worker reads what it needs.

    The last `held_out` samples show photos that the others do not.
    """

    arrays: Arrays
    held_out: int = 0

    @property
    def side(self) -> int:
        """Of a sample, pixels."""
        return int(self.arrays["blurry"].shape[1])

    @property
    def pictures(self) -> tuple[str, ...]:
        """Names of the pictures of a sample, in the order of PICTURES."""
        return tuple(name for name in PICTURES if name in self.arrays)

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the maps of radii of a sample, in the order of PLANES."""
        return tuple(name for name in PLANES if name in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays["blurry"])


def is_store(folder: Path) -> bool:
    """Whether a folder holds samples; raises InputError where it was to, and they are not whole."""
    if (folder / ABOUT).is_file():
        return True
    if all((folder / f"{name}.npy").is_file() for name in NEEDED):
        raise InputError(
            f"{folder}: samples that `allfocus data render` has not finished, for it was killed or "
            "is still at work; wait for it, or remove the folder and render it again"
        )
    return False


def open_store(folder: Path) -> Store:
    """The samples of a folder; raises InputError where one of its files is not what it must be."""
    present = [n for n in (*PICTURES, *PLANES) if n in NEEDED or (folder / f"{n}.npy").exists()]
    arrays: Arrays = {}
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        count, side = int(about["count"]), int(about["side"])
        held_out = int(about.get("held_out", 0))  # older folders hold no photo apart
        for name in present:
            arrays[name] = open_memmap(folder / f"{name}.npy", "r")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"{folder}: damaged ({error}); render it again") from None
    wrong = [name for name, array in arrays.items() if not _is(array, name, count, side)]
    if wrong:
        said = ", ".join(f"{name}.npy" for name in wrong)
        raise InputError(f"{folder}: {said} of another size or kind; render it again")
    if not 0 <= held_out <= count:
        raise InputError(f"{folder}: damaged (held_out {held_out} of {count}); render it again")
    return Store(arrays, held_out)


def make_empty(folder: Path) -> None:
    """See that `folder` is there, with nothing in it; raises UsageError where something is."""
    check_folder(folder)
    with _writing(folder):
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder}: not empty; choose another folder, or empty it")
        folder.mkdir(parents=True, exist_ok=True)


def check_space(folder: Path, pictures: int, count: int, side: int) -> None:
    """Raise AllfocusError where `count` samples of `pictures` pictures do not fit on the disk."""
    wanted = count * side**2 * (pictures * PICTURE_BYTES + len(PLANES) * PLANE_BYTES)
    there = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    with _writing(folder):
        free = shutil.disk_usage(there).free
    if wanted > free:
        raise AllfocusError(
            f"cannot write {folder}: {count} samples of {side}x{side} pixels take "
            f"{wanted / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free; {_ADVICE}"
        )


def allocate(folder: Path, names: Iterable[str], count: int, side: int) -> Arrays:
    """Files of their full size: a full disk is found before the work, not by a crash in it."""
    arrays: Arrays = {}
    for name in names:
        path = folder / f"{name}.npy"
        shape, kind = _form(name, count, side)
        with _writing(path):
            arrays[name] = open_memmap(path, "w+", kind, shape)
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return arrays


def finish(folder: Path, about: dict[str, Any]) -> None:
    """Say what the arrays are, which makes the folder a whole one."""
    with _writing(folder / ABOUT):
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def discard(folder: Path) -> None:
    """Remove what `allocate` and `finish` have made."""
    for name in (ABOUT, *(f"{name}.npy" for name in (*PICTURES, *PLANES))):
        with suppress(OSError):  # there is another error to be told
            (folder / name).unlink(missing_ok=True)


def _form(name: str, count: int, side: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if name in PLANES:
        return (count, side, side), np.dtype(np.float16)
    return (count, side, side, 3), np.dtype(np.uint8)


def _is(array: NDArray[Any], name: str, count: int, side: int) -> bool:
    return (array.shape, array.dtype) == _form(name, count, side)
