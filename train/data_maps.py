"""`allfocus data make-maps DIR`: defocus maps for blurry/sharp pairs, as files beside them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED, positive
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.files import publish
from allfocus.runtime.work import MAP_UNITS
from allfocus.train.camera import Image
from allfocus.train.datasets import recognise
from allfocus.train.maps import Search, estimate
from allfocus.train.pairs import Pair, read_rgb

_ABOUT = f"""\
Writes NAME.png, 16-bit grey, the blur radius in pixels times {MAP_UNITS}, for each blurry picture
NAME into DIR/defocus (or --out), where training finds it. Where a picture and its sharp one do not
lie over one another to the pixel, no map is right: align them before.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus data make-maps`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="blurry and sharp pictures, in a known layout")
    add("--out", type=Path, help="folder of the maps (default DIR/defocus)")
    add("--max-radius", type=float, default=12.0, help="largest blur tried, pixels (%(default)s)")
    add("--window", type=positive, default=11, help="L of eq. 8, pixels, odd (%(default)s)")
    add("--overwrite", action="store_true", help="replace maps that are there")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Make the maps: 0 all made, 1 some could not be."""
    if not args.folder.is_dir():
        raise UsageError(f"{args.folder}: not a folder; give the one that holds the pairs")
    try:
        search = Search(max_radius=args.max_radius, window=args.window)
    except ValueError as error:
        raise UsageError(str(error)) from None
    out: Path = args.out or args.folder / "defocus"
    jobs = _jobs(args.folder, out, args.overwrite)
    failed, confident = [], []
    for pair, target in tqdm(jobs, "maps", leave=False, disable=None):
        try:
            confident.append(_make(pair, target, search))
        except InputError as error:
            failed.append(str(error))
    share = float(np.mean(confident)) if confident else 0.0
    result = {"made": len(confident), "confidence": round(share, 3), "failed": failed}
    text = f"{len(confident)} maps in {out}, mean confidence {share:.2f}"
    print(json.dumps(result) if args.json else "\n".join((text, *map("failed: {}".format, failed))))
    return FAILED if failed else DONE


def _jobs(folder: Path, out: Path, overwrite: bool) -> list[tuple[Pair, Path]]:
    """Pairs, and where the map of each goes; raises where it would go over another file."""
    found = recognise(folder)
    pairs = [pair for pair in found.pairs("") if pair.sharp is not None] if found else []
    if not pairs:
        raise InputError(
            f"{folder}: no blurry/sharp pairs; expected `blurry/` and `sharp/` with pictures of "
            "the same names, or a data set that `allfocus data check` knows"
        )
    targets = [out / f"{pair.blurry.stem}.png" for pair in pairs]
    if len(set(targets)) < len(targets):
        raise InputError(f"{folder}: several blurry pictures of one name; give one split's folder")
    there = [target for target in targets if target.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} is there already; --overwrite replaces it")
    return list(zip(pairs, targets, strict=True))


def _make(pair: Pair, target: Path, search: Search) -> float:
    """Write one map; the mean confidence. Raises InputError."""
    assert pair.sharp is not None
    blurry, sharp = _read(pair.blurry), _read(pair.sharp)
    if blurry.shape != sharp.shape:
        raise InputError(
            f"{pair.blurry.name}, {pair.sharp.name}: sizes differ ({blurry.shape[:2]} and "
            f"{sharp.shape[:2]}); a pair has one size"
        )
    radius, confidence = estimate(blurry, sharp, search)
    code = np.rint(radius * MAP_UNITS).clip(0, 65535).astype(np.uint16)
    with publish(target) as path:
        if not cv2.imwrite(str(path), code):
            raise OSError(f"OpenCV cannot write {path.name}")
    return float(confidence.mean())


def _read(path: Path) -> Image:
    return np.asarray(read_rgb(path) / np.float32(255), np.float32)
