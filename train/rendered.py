"""Training samples rendered once and kept, so that many runs share them.

Making a sample takes about as long as a small net takes to train on it. A folder of rendered ones
holds `blurry.npy` and `sharp.npy` (uint8 [N, S, S, 3], sRGB), `radius.npy` (float16 [N, S, S],
pixels), where the recipe has them `left.npy`, `right.npy` and `moved.npy` like the first two, and,
written last, `rendered.json`, which says how they were made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch.utils.data import Dataset

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.files import check_folder, writing
from allfocus.train.pair_samples import mirror
from allfocus.train.photo_samples import PhotoSamples, turn
from allfocus.train.synthetic import PICTURES, Sample
from allfocus.train.workers import loader

ABOUT = "rendered.json"
_RADIUS = "radius"
_writing = partial(writing, advice="free some space, choose another --out, or a smaller --count")


@dataclass(frozen=True)
class Rendered:
    """One of the samples of a folder."""

    folder: Path
    index: int


@dataclass(frozen=True)
class _Store:
    """The arrays of a folder by name, mapped from disk: a worker reads what it needs."""

    arrays: dict[str, NDArray[Any]]

    @property
    def side(self) -> int:
        return int(self.arrays["blurry"].shape[1])

    def __len__(self) -> int:
        return len(self.arrays["blurry"])


def find_rendered(folder: Path) -> list[Rendered]:
    """The samples in `folder`; none where it is not such a folder."""
    if not (folder / ABOUT).is_file():
        return []
    return [Rendered(folder, index) for index in range(len(_open(folder)))]


class RenderedSamples(Dataset[Sample]):
    """Crops of `side` pixels of rendered samples, turned and mirrored at random."""

    has_map = True
    has_sharp = True

    def __init__(self, items: list[Rendered], side: int, seed: int) -> None:
        self.items, self.side, self.seed = items, side, seed
        self._store = _open(items[0].folder)
        self.has_views = "left" in self._store.arrays
        if self._store.side < side:
            raise InputError(
                f"{items[0].folder}: its samples are {self._store.side} pixels wide, less than the "
                f"crop of {side}; use a smaller --crop, or `allfocus data render --side {side}`"
            )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        number = self.items[int(rng.integers(len(self.items)))].index
        y, x = rng.integers(self._store.side - self.side + 1, size=2)
        cut = (number, slice(int(y), int(y) + self.side), slice(int(x), int(x) + self.side))
        arrays = self._store.arrays
        names = [name for name in PICTURES if name in arrays]
        codes = [arrays[name][cut].astype(np.float32) / np.float32(255) for name in names]
        radius = arrays[_RADIUS][cut].astype(np.float32)[..., None]
        stack = np.concatenate((*codes, radius), axis=2)
        stack = mirror(rng, stack) if self.has_views else turn(rng, stack)
        parts = {name: stack[..., 3 * i : 3 * i + 3] for i, name in enumerate(names)}
        return Sample(radius=stack[..., -1], **parts)


def render_into(folder: Path, samples: PhotoSamples, count: int, workers: int) -> Iterator[int]:
    """Fill `folder` with the first `count` of `samples`; yields how many are done.

    Raises UsageError where something is there already or a number cannot be meant, AllfocusError
    where the folder cannot be written or the disk is full.
    """
    if samples.seed < 0:  # a sample's own generator would refuse it, after the folder was made
        raise UsageError(f"seed: expected a whole number of 0 or more, got {samples.seed}")
    drawn = loader(samples, range(count), workers, ahead=8)
    _make_empty(folder)
    arrays: dict[str, NDArray[Any]] = {}
    for index, sample in enumerate(drawn):
        arrays = arrays or _allocate(folder, sample, count)
        for name, array in arrays.items():
            value = np.asarray(getattr(sample, name))
            array[index] = value if name == _RADIUS else np.rint(value * 255)
        yield index + 1
    about = {"count": count, "side": samples.side, "seed": samples.seed}
    text = json.dumps({**about, "recipe": asdict(samples.recipe)}, indent=1)
    with _writing(folder / ABOUT):
        (folder / ABOUT).write_text(text + "\n", encoding="utf-8")


def _make_empty(folder: Path) -> None:
    """See that `folder` is there, with nothing in it."""
    check_folder(folder)
    with _writing(folder):
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder}: not empty; choose another folder, or empty it")
        folder.mkdir(parents=True, exist_ok=True)


def _allocate(folder: Path, sample: Sample, count: int) -> dict[str, NDArray[Any]]:
    """Files of their full size: a full disk is found before the work, not by a crash in it."""
    side = len(sample.radius)
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        name: ((count, side, side, 3), "u1")
        for name in PICTURES
        if getattr(sample, name) is not None
    }
    shapes[_RADIUS] = ((count, side, side), "f2")
    arrays: dict[str, NDArray[Any]] = {}
    for name, (shape, kind) in shapes.items():
        path = folder / f"{name}.npy"
        with _writing(path):
            arrays[name] = open_memmap(path, "w+", np.dtype(kind), shape)
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return arrays


def _open(folder: Path) -> _Store:
    names = [name for name in (*PICTURES, _RADIUS) if (folder / f"{name}.npy").is_file()]
    try:
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        expected = (about["count"], about["side"], about["side"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: damaged ({error}); render it again") from None
    lacking = {"blurry", "sharp", _RADIUS} - set(names)
    wrong = [name for name, array in arrays.items() if array.shape[:3] != expected]
    if lacking or wrong:
        said = ", ".join(f"{name}.npy" for name in (*sorted(lacking), *wrong))
        raise InputError(f"{folder}: {said} missing or of another size; render it again")
    return _Store(arrays)
