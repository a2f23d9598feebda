"""Pairs in folders that are named by what they hold, as tools and users of this field name them.

`input` + `target` (NAFNet), `lq` + `gt` (BasicSR's words), `blur` + `sharp` (GoPro), `inputC` +
`target` with the dual-pixel views `inputL`, `inputR` (DPDD, as Restormer hands it on); alone, or in
`train/`, `val/` and `test/`, which hold such folders, or one for each scene or data set.
"""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

from allfocus.runtime.errors import InputError
from allfocus.train.masks import are_masks
from allfocus.train.pairs import Pair, list_images, match

Splits = dict[str, list[Pair]]  # "train", "val", "test", or "all" where a folder is not split
MAPS = ("filtered", "defocus")  # the latter is what `allfocus data make-maps` writes
BLURRY = ("inputC", "input", "lq", "blurry", "blur", "image", "source")
SHARP = ("target", "sharp", "gt")
_VIEWS = ("inputL", "inputR")
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def read(folder: Path, *, with_maps: bool = True) -> Splits:
    """The pairs of `folder`, or of the splits in it; of each the first names that are there.

    Not `with_maps`, maps are not looked at. Raises InputError where something is missing.
    """
    whole = pairs_in(folder, with_maps=with_maps)
    if whole:
        return {"all": whole}
    bases = {split: subfolder(folder, *names) for split, names in _SPLITS.items()}
    found = {s: _of_split(base, with_maps=with_maps) for s, base in bases.items() if base}
    for split, pairs in found.items():
        base = bases[split]
        if not pairs and any(found.values()) and base and list_images(base) + folders(base):
            raise InputError(
                f"{base}: no pairs in it, as there are beside it; expected one of "
                f"{', '.join(BLURRY)} and one of {', '.join(SHARP)} in it"
            )
    return found


def _of_split(base: Path, *, with_maps: bool) -> list[Pair]:
    """Those of the folder itself, or else of all folders in it that hold such."""
    own = _whole(base, with_maps=with_maps)
    scenes = (_whole(inner, with_maps=with_maps) for inner in folders(base))
    return own or list(chain.from_iterable(scenes))


def _whole(folder: Path, *, with_maps: bool) -> list[Pair]:
    """As `pairs_in`; a split or a scene with half of what it needs is a mistake, not something
    else: InputError.
    """
    found = pairs_in(folder, with_maps=with_maps)
    if found:
        return found
    blurry, sharp = subfolder(folder, *BLURRY), subfolder(folder, *SHARP)
    if (blurry is None) != (sharp is None):
        there, lacks = (sharp, BLURRY) if blurry is None else (blurry, SHARP)
        raise InputError(
            f"{folder}: {there.name if there else ''}/ without its counterpart; expected one of "
            f"{', '.join(lacks)} beside it"
        )
    return []


def pairs_in(
    folder: Path,
    blurry_names: tuple[str, ...] = BLURRY,
    sharp_names: tuple[str, ...] = SHARP,
    *,
    with_maps: bool = True,
) -> list[Pair]:
    """The pairs directly in `folder`, with what views and maps lie beside them; none where a folder
    of blurry or one of sharp pictures is missing.
    """
    blurry, sharp = subfolder(folder, *blurry_names), subfolder(folder, *sharp_names)
    if not blurry or not sharp:
        return []
    _check_no_masks(sharp)
    maps = subfolder(folder, *MAPS) if with_maps else None
    views = _views(folder) if blurry.name.lower() == "inputc" else []
    lists = [list_images(each) for each in (blurry, sharp, *views)]
    return paired(folder, lists, None if maps is None else list_images(maps))


def paired(folder: Path, lists: list[list[Path]], maps: list[Path] | None) -> list[Pair]:
    """Pairs of the blurry and sharp pictures, and the left and right views if there are such, of
    `lists`, in this order, and of `maps`; `folder` is what errors name.
    """
    names, every = ["blurry", "sharp pictures", "left views", "right views"][: len(lists)], lists
    if maps is not None:
        names, every = [*names, "maps"], [*lists, maps]
    rows = match(folder, tuple(names), *every)
    has_map, has_views = maps is not None, len(lists) > 2
    return [
        Pair(row[0], row[1], row[-1] if has_map else None, left, right, by_order=rows.by_order)
        for row in rows.files
        for left, right in [row[2:4] if has_views else (None, None)]
    ]


def _views(folder: Path) -> list[Path]:
    found = [path for name in _VIEWS if (path := subfolder(folder, name))]
    if len(found) == 1:
        raise InputError(f"{folder}: one of {' and '.join(_VIEWS)} is missing; expected both")
    return found


def _check_no_masks(sharp: Path) -> None:
    if sharp.name.lower() == "gt" and are_masks(list_images(sharp)):
        raise InputError(
            f"{sharp}: black-and-white masks, it seems, where sharp pictures were expected. Name "
            f"the folders `images/` and `masks/` for pictures with masks, or {sharp.name}/ "
            "`sharp/` if these are sharp pictures all the same"
        )


def folders(folder: Path) -> list[Path]:
    """Those in `folder` that are not hidden, sorted by name."""
    with os.scandir(folder) as entries:  # which knows what is a folder without asking each file
        return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))


def subfolder(folder: Path, *names: str) -> Path | None:
    """The first of `names` that is a folder in `folder`, in capitals or not; None where none is."""
    there = {path.name.lower(): path for path in folders(folder)}
    return next((there[name.lower()] for name in names if name.lower() in there), None)
