"""What a model is judged on: blurry pictures with their truth, in a folder or made here.

The layouts are those `allfocus train` knows, read without torch, so that models can be judged where
only their engine is installed. Where a data set is split, its test part is taken; with a note, its
val part where there is no test part, and its train part where there is nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.spec import Size
from allfocus.train import pairs
from allfocus.train.datasets import LAYOUTS, recognise
from allfocus.train.evaluation_pair import Pair
from allfocus.train.fingerprint import fingerprint
from allfocus.train.map_range import bits_of, check_range

SYNTHETIC = "synthetic"
_DEEP = 16  # bits of a sample
_EXPECTED = (
    f"expected pairs in the layout of {', '.join(each.name for each in LAYOUTS)} (`allfocus data "
    f"check` tells more); `--data {SYNTHETIC}` needs no folder"
)


@dataclass(frozen=True)
class DataSet:
    """Pairs that are read, or made, one at a time, each time that one goes through them."""

    name: str
    makers: tuple[Callable[[], Pair], ...]
    notes: tuple[str, ...] = ()
    size: Size | None = None  # the middle of each picture, of this size

    def __len__(self) -> int:
        return len(self.makers)

    def __iter__(self) -> Iterator[Pair]:
        for make in self.makers:
            pair = make()
            yield pair if self.size is None else pair.cut(self.size)

    def limited(self, limit: int | None, size: Size | None) -> DataSet:
        """The first `limit` pairs (None: all), and of each the middle of `size` (None: all)."""
        notes = self.notes
        if limit is not None and limit < len(self):
            notes += (f"only the first {limit} of {len(self)} pictures",)
        if size is not None:
            notes += (f"only the middle of each picture, {size} pixels at most",)
        return dataclasses.replace(self, makers=self.makers[:limit], notes=notes, size=size)


def open_data(data: str, map_radius: float, *, views: bool = False) -> DataSet:
    """The built-in set where `data` is "synthetic", else the pairs of the folder `data`.

    `map_radius`: the blur radius, in pixels, that white stands for in a folder's maps. `views`: the
    pairs have dual-pixel views too, where the data set has.
    Raises UsageError for a folder that is none, or in no known layout.
    """
    if data != SYNTHETIC:
        return _folder(Path(data).expanduser(), map_radius, views)
    from allfocus.train.evaluation_scenes import available, photograph
    from allfocus.train.evaluation_set import VERSION

    scenes, notes = available()
    kept: dict[str, Pair] = {}

    def make(index: int) -> Pair:
        scene = scenes[index]
        if scene.name not in kept:
            kept[scene.name] = photograph(scene, views=views)
        return kept[scene.name]

    makers = tuple(partial(make, index) for index in range(len(scenes)))
    return DataSet(f"{SYNTHETIC}, version {VERSION}", makers, notes)


def _folder(folder: Path, map_radius: float, views: bool) -> DataSet:
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: not a folder; {_EXPECTED}")
    try:
        found = recognise(folder)
    except InputError as error:  # a layout that is known, with something missing
        raise UsageError(f"--data {error}") from None
    if found is None:
        names = ", ".join(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())[:8])
        raise UsageError(f"{folder}: no pairs in it (found {names or 'nothing'}); {_EXPECTED}")
    files = found.pairs("test")
    check_range(files)
    notes = (*found.notes, *_split_notes(found.split_for("test")))
    if any(pair.sharp is None for pair in files):
        lacking = [pair for pair in files if pair.defocus is None]
        if lacking:
            raise UsageError(
                f"{lacking[0].blurry}: neither a sharp picture nor a mask to judge by; take a data "
                "set with one of them"
            )
        notes += ("no sharp pictures here: judged is only what is called in focus",)
    titles = _names(files)
    maps = [pair.defocus for pair in files if pair.defocus is not None]
    if maps and bits_of(maps[0]) == _DEEP:
        notes += ("maps of 16 bits: radii in 1/256 pixel, whatever --map-radius says",)
    makers = tuple(
        partial(_read_pair, pair, name, map_radius, views=views)
        for pair, name in zip(files, titles, strict=True)
    )
    told = f"{found.name}, {folder.resolve().name}, files {_files_of(folder, files)}"
    return DataSet(told, makers, notes)


def _split_notes(split: str | None) -> tuple[str, ...]:
    if split == "val":
        return ("no test split here: judged is the val split",)
    if split == "all":
        return ("no splits here: judged are all pairs, those that a model was trained on too",)
    if split == "train":
        return (
            "no test split here: judged is the train split, which says nothing of models that were "
            "trained on it",
        )
    return ()


def _files_of(folder: Path, files: list[pairs.Pair]) -> str:
    """A fingerprint: folders of one name hold other pictures elsewhere, and the same may lie under
    another path.
    """
    return fingerprint(folder, {path for pair in files for path in pair.files})


def _names(files: list[pairs.Pair]) -> list[str]:
    """The blurry pictures' own, with their scene's before it where scenes count theirs alike."""
    stems = [pair.blurry.stem for pair in files]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{pair.blurry.parent.parent.name}/{pair.blurry.stem}" for pair in files]


def _read_pair(files: pairs.Pair, name: str, map_radius: float, *, views: bool) -> Pair:
    taken = pairs.read_rgb(files.blurry)
    truth = None if files.sharp is None else pairs.read_rgb(files.sharp)
    radius = None
    if files.defocus is not None:
        radius = pairs.read_map(files.defocus, map_radius, files.white)
    sides = (files.left, files.right) if views else (None, None)
    left, right = (None if path is None else pairs.read_rgb(path) for path in sides)
    read = (
        *((files.blurry, taken), (files.sharp, truth), (files.defocus, radius)),
        *zip(sides, (left, right), strict=True),
    )
    pairs.check_sizes({path: array for path, array in read if path and array is not None})
    if truth is None and radius is not None:
        sharp = pairs.sharp_in_mask(radius, map_radius)
        seen = np.where(sharp, 0, np.inf).astype(np.float32)
        return Pair(name, taken, None, None, seen, left, right)
    return Pair(name, taken, truth, radius, radius, left, right)
