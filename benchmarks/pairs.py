"""What a model is judged on: blurry pictures with their truth, in a folder or made here.

The layouts are those `allfocus train` knows, read without torch, so that models can be judged where
only their engine is installed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks.evaluation_set import IN_FOCUS
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.spec import Size

Frame = NDArray[np.uint8]  # [H, W, 3], RGB
Radii = NDArray[np.float32]  # [H, W], pixels
SYNTHETIC = "synthetic"
EXTENSIONS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
BLURRY, SHARP, MAPS = ("image", "blurry"), ("sharp",), ("filtered", "defocus")
LAYOUT = (
    "expected `image/` or `blurry/` with the blurry pictures, `sharp/` with the sharp ones, and "
    "optionally `filtered/` or `defocus/` with the maps (white = most blurred); in all of them "
    f"files sort into the same order. `--data {SYNTHETIC}` needs no folder"
)


@dataclass(frozen=True)
class Pair:
    """A blurry picture and its truth, uint8 RGB [H, W, 3]; blur radii [H, W] in pixels.

    `radius` is that of what is front-most, as maps have it. `seen` is the mean radius of what a
    pixel's light comes from: it differs where something blurred in front spills over what is in
    focus behind it. Where a data set has no maps, both are None; a folder has no `seen` of its own.
    """

    name: str
    blurry: Frame
    sharp: Frame
    radius: Radii | None
    seen: Radii | None

    @property
    def in_focus(self) -> NDArray[np.bool_] | None:
        """[H, W]: where the blur radius that is seen is under half a pixel."""
        return None if self.seen is None else self.seen < IN_FOCUS

    def cut(self, size: Size) -> Pair:
        """The middle of the picture, of at most `size`."""
        height, width = self.blurry.shape[:2]
        top, left = max(0, (height - size.height) // 2), max(0, (width - size.width) // 2)
        part = (slice(top, top + size.height), slice(left, left + size.width))
        radius, seen = (None if m is None else m[part] for m in (self.radius, self.seen))
        return Pair(self.name, self.blurry[part], self.sharp[part], radius, seen)


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
            notes += (f"only the middle of each picture, {size} pixels",)
        return dataclasses.replace(self, makers=self.makers[:limit], notes=notes, size=size)


def open_data(data: str, map_radius: float) -> DataSet:
    """The built-in set where `data` is "synthetic", else the pairs of the folder `data`.

    `map_radius`: the blur radius, in pixels, that white stands for in a folder's maps.
    Raises UsageError for a folder that is none, or in no known layout.
    """
    if data != SYNTHETIC:
        return _folder(Path(data).expanduser(), map_radius)
    from allfocus.benchmarks.evaluation_scenes import available, photograph
    from allfocus.benchmarks.evaluation_set import VERSION

    scenes, notes = available()
    kept: dict[str, Pair] = {}

    def make(index: int) -> Pair:
        scene = scenes[index]
        if scene.name not in kept:
            kept[scene.name] = photograph(scene)
        return kept[scene.name]

    makers = tuple(partial(make, index) for index in range(len(scenes)))
    return DataSet(f"{SYNTHETIC}, version {VERSION}", makers, notes)


def _folder(folder: Path, map_radius: float) -> DataSet:
    if not folder.is_dir():
        raise UsageError(f"--data {folder}: not a folder; {LAYOUT}")
    blurry, sharp, maps = (_pictures(folder, names) for names in (BLURRY, SHARP, MAPS))
    if not blurry or not sharp:
        found = ", ".join(sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())[:8])
        raise UsageError(f"{folder}: no pairs in it (found {found or 'nothing'}); {LAYOUT}")
    if len(blurry) != len(sharp) or (maps and len(maps) != len(blurry)):
        raise UsageError(
            f"{folder}: {len(blurry)} blurry, {len(sharp)} sharp pictures, {len(maps)} maps; each "
            "blurry picture needs one of each, or no picture a map"
        )
    planes: list[Path | None] = [*maps] or [None] * len(blurry)
    rows = zip(blurry, sharp, planes, strict=True)
    return DataSet(str(folder), tuple(partial(_read_pair, *row, map_radius) for row in rows))


def _pictures(folder: Path, names: Sequence[str]) -> list[Path]:
    """The pictures, sorted by name, of the first of `names` that is a folder in `folder`."""
    for name in names:
        if (folder / name).is_dir():
            inside = (folder / name).iterdir()
            return sorted(path for path in inside if path.suffix.lower() in EXTENSIONS)
    return []


def _read_pair(blurry: Path, sharp: Path, defocus: Path | None, map_radius: float) -> Pair:
    taken, truth = _read(blurry), _read(sharp)
    radius = None
    if defocus is not None:
        radius = _read(defocus)[..., 0].astype(np.float32) * np.float32(map_radius / 255)
    sizes = {array.shape[:2] for array in (taken, truth, radius) if array is not None}
    if len(sizes) > 1:
        raise InputError(
            f"{blurry}, {sharp.name}: sizes differ ({sorted(sizes)}); a pair's pictures and map "
            "must have the same size"
        )
    return Pair(blurry.stem, taken, truth, radius, seen=radius)


def _read(path: Path) -> Frame:
    """A picture as uint8 RGB [H, W, 3]; 16 bits become 8. Raises InputError."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: not a picture that OpenCV can read; repair or remove it")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)
