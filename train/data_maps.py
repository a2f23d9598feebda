"""`allfocus data make-maps DIR`: defocus maps for blurry/sharp pairs, as files beside them."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED, positive
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.files import check_folder, remove_drafts
from allfocus.runtime.pictures.radius import MAP_UNITS, coded
from allfocus.train.alone import alone
from allfocus.train.camera import Image
from allfocus.train.datasets import Found, recognise
from allfocus.train.maps import Search, estimate
from allfocus.train.pair_folders import MAPS
from allfocus.train.pairs import Pair, check_sizes, read_rgb
from allfocus.train.picture_file import write_picture

_NAME = MAPS[-1]  # of a folder of maps
_ABOUT = f"""\
Writes NAME.png, 16-bit grey, the blur radius in pixels times {MAP_UNITS}, for each blurry picture
NAME into `defocus/` beside its folder (or --out), where training finds it: of all splits and scenes
of DIR, unless DIR is one of them.
Maps that are there are kept, so that an interrupted run is gone on with. Where a picture and its
sharp one do not lie over one another to the pixel, no map is right: align them before.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus data make-maps`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="blurry and sharp pictures, in a known layout")
    add(
        "--out",
        type=Path,
        help="folder of the maps (default: defocus/ beside the blurry pictures' folder)",
    )
    add("--max-radius", type=float, default=12.0, help="largest blur tried, pixels (%(default)s)")
    add("--window", type=positive, default=11, help="L of eq. 8, pixels, odd (%(default)s)")
    add("--overwrite", action="store_true", help="replace maps that are there")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Make the maps: 0 all made, 1 some could not be."""
    if not args.folder.is_dir():
        raise UsageError(f"{args.folder}: not a folder; give the one that holds the pairs")
    search = _search(args)
    found = _pairs_in(args.folder)
    if args.out is None:
        _check_that_training_looks(args.folder, found)
    every = _jobs(args.folder, found.every, args.out)
    folders = sorted({target.parent for _, target in every})
    for out in folders:
        check_folder(out)
    with ExitStack() as held:
        for out in folders:
            held.enter_context(alone(out, "data make-maps"))
        remove_drafts(target for _, target in every)  # of a run that was killed
        jobs = [job for job in every if args.overwrite or not job[1].exists()]
        confident, failed = _make_all(jobs, search)
    there = len(every) - len(jobs)
    share = round(float(np.mean(confident)), 3) if confident else None
    result = {
        "made": len(confident),
        "there": there,
        "confidence": share,
        "failed": failed,
        "notes": list(found.notes),
    }
    where = folders[0] if len(folders) == 1 else f"{len(folders)} folders of {args.folder}"
    text = f"{len(confident)} maps in {where}"
    if share is not None:
        text += f", mean confidence {share:.2f}"
    if there:
        text += f"; {there} were there already, --overwrite makes them anew"
    lines = (text, *map("note: {}".format, found.notes), *map("failed: {}".format, failed))
    print(json.dumps(result) if args.json else "\n".join(lines))
    return FAILED if failed else DONE


def _search(args: argparse.Namespace) -> Search:
    try:
        return Search(max_radius=args.max_radius, window=args.window)
    except ValueError as error:  # it begins with the name of what is wrong
        raise UsageError("--" + str(error).replace("_", "-", 1)) from None


def _pairs_in(folder: Path) -> Found:
    """What `folder` holds, but for its maps: some may be missing, which is why one comes here."""
    found = recognise(folder, with_maps=False)
    if found and all(pair.sharp is not None for pair in found.every):
        return found
    raise InputError(
        f"{folder}: no blurry/sharp pairs; expected `blurry/` and `sharp/` with pictures of "
        "the same names, or a data set that `allfocus data check` knows"
    )


def _check_that_training_looks(folder: Path, found: Found) -> None:
    """Refuse to make maps beside the pictures where training would look elsewhere, or nowhere."""
    if found.maps is not None and found.maps.name == _NAME:
        return
    looks = f"it looks in {found.maps}" if found.maps else f"{found.name} has no folder for maps"
    raise UsageError(
        f"{folder}: training would not find maps in {_NAME}/: {looks}. Give --out; it finds "
        f"them beside `blurry/` and `sharp/`, in `{_NAME}/`, where no `filtered/` is"
    )


def _jobs(folder: Path, pairs: list[Pair], out: Path | None) -> list[tuple[Pair, Path]]:
    """Pairs, and where the map of each goes: into `out`, or else beside the folder of its blurry
    picture. Raises InputError where two would go to one place.
    """
    bases = [out or pair.blurry.parent.parent / _NAME for pair in pairs]
    targets = [b / f"{pair.blurry.stem}.png" for b, pair in zip(bases, pairs, strict=True)]
    if len(set(targets)) < len(targets):
        raise InputError(f"{folder}: several blurry pictures of one name; give one split's folder")
    return list(zip(pairs, targets, strict=True))


def _make_all(jobs: list[tuple[Pair, Path]], search: Search) -> tuple[list[float], list[str]]:
    """The mean confidence of each map that was made, and why others could not be."""
    confident, failed = [], []
    for pair, target in tqdm(jobs, "maps", leave=False, disable=None):
        try:
            confident.append(_make(pair, target, search))
        except InputError as error:
            failed.append(str(error))
    return confident, failed


def _make(pair: Pair, target: Path, search: Search) -> float:
    """Write one map; the mean confidence. Raises InputError."""
    assert pair.sharp is not None
    blurry, sharp = _read(pair.blurry), _read(pair.sharp)
    check_sizes({pair.blurry: blurry, pair.sharp: sharp})
    radius, confidence = estimate(blurry, sharp, search)
    code = coded(radius)
    write_picture(target, code)
    return float(confidence.mean())


def _read(path: Path) -> Image:
    return np.asarray(read_rgb(path) / np.float32(255), np.float32)
