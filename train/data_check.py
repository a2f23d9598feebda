"""`allfocus data check DIR`: which data set a folder holds, or what is wrong with it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED
from allfocus.runtime.errors import InputError, UsageError
from allfocus.train import disparity
from allfocus.train.datasets import LAYOUTS, recognise
from allfocus.train.map_range import Light, bits_of, light
from allfocus.train.pairs import Pair, check_sizes, list_images, read_map, read_rgb
from allfocus.train.store import is_store, open_store
from allfocus.train.truths import Truths

_SHOWN = 20  # problems that are printed; all of them stand in the JSON
_PHOTOS, _SAMPLES = "sharp photos", "rendered samples"
_UNITS = {_PHOTOS: "photos", _SAMPLES: "samples"}


@dataclass
class Part:
    """What one split of a data set holds."""

    name: str
    pairs: int
    maps: int = 0
    views: int = 0
    disparities: int = 0  # of photos
    sizes: Counter[str] = field(default_factory=Counter)  # "WIDTHxHEIGHT" -> pictures
    depths: Counter[str] = field(default_factory=Counter)  # "picture 8 bits" -> files
    problems: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus data check`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    known = "\n".join(f"  {layout.name:10} {layout.shape}" for layout in LAYOUTS)
    parser.epilog = (
        f"known layouts:\n{known}\nor sharp photos in one folder, or what `data render` has made"
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Read every file; 0 where all is well, 1 where something is wrong."""
    folder: Path = args.folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; give the one that holds the data set")
    name, notes, parts = _look(folder)
    if not any(part.pairs for part in parts):
        raise InputError(f"{folder}: {_unknown(folder)}")
    problems = [problem for part in parts for problem in part.problems]
    if args.json:
        body = {"data_set": name, "notes": notes, "splits": [vars(part) for part in parts]}
        print(json.dumps(body | {"problems": len(problems)}, indent=1))
    else:
        print("\n".join(_text(folder, name, notes, parts)))
    return FAILED if problems else DONE


def _look(folder: Path) -> tuple[str, tuple[str, ...], list[Part]]:
    """What the folder holds, as training takes it: its name, notes, and parts."""
    if is_store(folder):
        return _SAMPLES, (), [_check_samples(folder)]
    found = recognise(folder)
    if found:
        splits = found.splits.items()
        return found.name, found.notes, [_check(split, pairs) for split, pairs in splits]
    return _PHOTOS, (), [_check_photos(list_images(folder))]


def _check_samples(folder: Path) -> Part:
    samples = open_store(folder)
    count = len(samples)
    part = Part("all", count, maps=count, views=count if "left" in samples.arrays else 0)
    part.sizes[f"{samples.side}x{samples.side}"] = count
    part.depths["picture 8 bits"] = count * len(samples.pictures)
    part.depths["map 16 bits"] = count
    return part


def _check_photos(photos: list[Path]) -> Part:
    part = Part("all", len(photos))
    for path in tqdm(photos, part.name, leave=False, disable=None):
        try:
            size = read_rgb(path).shape[:2]
            part.sizes[f"{size[1]}x{size[0]}"] += 1
            part.depths[f"picture {bits_of(path)} bits"] += 1
            part.disparities += disparity.of_photo(path, size) is not None
        except InputError as error:
            part.problems.append(str(error))
    return part


def _check(name: str, pairs: list[Pair]) -> Part:
    part, truths = Part(name, len(pairs)), Truths()
    lights = []
    for pair in tqdm(pairs, name, leave=False, disable=None):
        part.maps += pair.defocus is not None
        part.views += pair.left is not None
        try:
            lights.append(_check_pair(pair, part, truths))
        except InputError as error:
            part.problems.append(str(error))
    part.problems += truths.problems(name)
    if 0 < part.maps < part.pairs:
        part.problems.append(
            f"{name}: {part.pairs - part.maps} of {part.pairs} pairs have no map, and maps are "
            "used only where all have one: make the others by `allfocus data make-maps`"
        )
    lightest = max(filter(None, lights), default=None)
    if lightest and lightest.too_dark:
        part.problems.append(f"{name}: {lightest.text}")
    return part


def _check_pair(pair: Pair, part: Part, truths: Truths) -> Light | None:
    """Count a pair in `part` and `truths`; the lightest of its map. Raises InputError."""
    read: dict[Path, NDArray[Any]] = {}  # by path: a pair's files often share one name
    for path in (p for p in pair.files if p != pair.defocus):
        read[path] = read_rgb(path)
        part.depths[f"picture {bits_of(path)} bits"] += 1
    height, width = read[pair.blurry].shape[:2]
    part.sizes[f"{width}x{height}"] += 1
    lightest = None
    if pair.defocus is not None:
        plane = read_map(pair.defocus, 255.0, pair.white)
        read[pair.defocus] = plane
        bits = bits_of(pair.defocus)
        part.depths[f"map {bits} bits"] += 1
        lightest = light(plane, pair, bits)
    check_sizes(read)
    if pair.sharp is not None:
        truths.add(read[pair.blurry], read[pair.sharp])
    return lightest


def _unknown(folder: Path) -> str:
    inner = [p.name for p in sorted(folder.iterdir()) if p.is_dir()]
    known = [name for name in inner if recognise(folder / name)]
    if len(known) == 1:
        return f"no known layout, but {folder / known[0]} is one: give that"
    if known:
        return f"no known layout, but its folders {', '.join(known)} are each one: give them"
    listed = ", ".join(f"{name} ({_held(folder / name)})" for name in inner[:8])
    has = f"it holds the folders {listed}" if inner else "it holds no pictures"
    shapes = "".join(f"\n  {layout.name}: {layout.shape}" for layout in LAYOUTS)
    return f"no known layout; {has}. Known:{shapes}"


def _held(folder: Path) -> str:
    """What a folder holds itself, counted."""
    count = len(list_images(folder))
    return f"{count or 'no'} picture{'' if count == 1 else 's'}"


def _shortest(part: Part) -> int:
    """Pixels; of a larger crop, the rest is mirrored."""
    return min(int(side) for size in part.sizes for side in size.split("x"))


def _text(folder: Path, name: str, notes: tuple[str, ...], parts: list[Part]) -> list[str]:
    lines = [f"{folder}: {name}", *(f"  {note}" for note in notes)]
    for part in parts:
        kinds = [f"{part.pairs} {_UNITS.get(name, 'pairs')}"]
        kinds += [f"{part.maps} maps"] * bool(part.maps)
        kinds += [f"{part.views} with views"] * bool(part.views)
        kinds += [f"{part.disparities} with disparity"] * bool(part.disparities)
        sizes = [f"{size} ({n})" for size, n in part.sizes.most_common(3)]
        more = [f"{len(part.sizes) - 3} more sizes"] * (len(part.sizes) > 3)
        depths = [f"{kind} ({n})" for kind, n in part.depths.items()]
        least = [f"shortest side {_shortest(part)} pixels"] if len(part.sizes) > 1 else []
        told = ", ".join((*sizes, *more, *least, *depths)) or "none could be read"
        lines.append(f"  {part.name}: {', '.join(kinds)}; {told}")
        lines += [f"    wrong: {problem}" for problem in part.problems[:_SHOWN]]
        if len(part.problems) > _SHOWN:
            lines.append(f"    and {len(part.problems) - _SHOWN} more; --json lists all")
    wrong = sum(len(part.problems) for part in parts)
    return [*lines, f"{wrong} problems" if wrong else "all files read; nothing wrong"]
