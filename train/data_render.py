"""`allfocus data render DIR --out FOLDER`: training samples made once, for many runs."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from allfocus.runtime.command import DONE, not_negative, positive
from allfocus.runtime.errors import UsageError
from allfocus.runtime.stopping import ending_alike
from allfocus.train.synthetic import Recipe, rich

if TYPE_CHECKING:
    from allfocus.train.data import Items

_WIDEST = 256.0  # pixels of radius: a crop's surroundings, which are drawn too, grow with it

_ABOUT = """\
DIR holds sharp photos, or is `dead-leaves` for generated scenes. `train.py --data FOLDER` then
reads the samples instead of making them; crops of them are turned and mirrored at random. One in
ten, the last of all, shows photos that the others do not, every tenth of DIR: training validates on
those. A sample takes 10 bytes a pixel on disk, 6 more with --views and 3 more with --misaligned.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus data render`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="sharp photos")
    add("--out", type=Path, required=True, help="folder to fill; it must be empty")
    add("--count", type=positive, default=10000, help="samples (default %(default)s)")
    add(
        "--side", type=positive, default=192, help="pixels of a sample's side (default %(default)s)"
    )
    add("--seed", type=not_negative, default=0)
    add("--max-radius", type=float, default=8.0, help="pixels; a share lies beyond (%(default)s)")
    add("--jpeg-share", type=float, default=0.3, help="pictures that are JPEGs (%(default)s)")
    add("--sharp-share", type=float, default=0.2, help="scenes all in focus (%(default)s)")
    add("--soft-share", type=float, default=0.65, help="photos that are enlarged (%(default)s)")
    add("--views", action="store_true", help="dual-pixel views too")
    add("--misaligned", action="store_true", help="a displaced sharp picture too")
    add("--workers", type=not_negative, default=2, help="processes (default %(default)s)")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Render the samples."""
    from allfocus.train.data import find, make_samples
    from allfocus.train.photo_samples import PhotoSamples
    from allfocus.train.rendered import render_into

    items = find(args.folder)
    if not isinstance(items[0], Path):
        raise UsageError(f"{args.folder}: expected sharp photos; what it holds is blurred already")
    drawn = [make_samples(part, args.side, args.seed, _recipe(args)) for part in _parts(items)]
    photos = [each for each in drawn if isinstance(each, PhotoSamples)]
    began = time.monotonic()
    filled = render_into(
        args.out,
        photos[0],
        args.count,
        args.workers,
        *photos[1:],
        source=_source(args.folder, items),
    )
    with ending_alike(), closing(filled) as made:
        for _ in tqdm(made, total=args.count, disable=None):
            pass
    rate = round(args.count / (time.monotonic() - began), 1)
    result = {"samples": args.count, "side": args.side, "per_second": rate}
    text = f"{args.count} samples of {args.side}x{args.side} pixels in {args.out}, {rate} a second"
    print(json.dumps(result) if args.json else text)
    return DONE


def _parts(items: Items) -> tuple[Items, ...]:
    """What most samples show, and what those do that are held out; one photo cannot be both."""
    from allfocus.train.data import DEAD_LEAVES, hold_out

    if DEAD_LEAVES in items:
        return items, items  # each scene is a new one
    return hold_out(items) if len(items) > 1 else (items,)


def _source(folder: Path, items: Items) -> dict[str, object]:
    """The photos' names, for whoever asks for their terms, and what tells them from others."""
    from allfocus.train.fingerprint import fingerprint
    from allfocus.train.split import files_of

    files = files_of(items)
    names = sorted(path.name for path in files)
    return {"photos": names, "photos_fingerprint": fingerprint(folder, files)}


def _recipe(args: argparse.Namespace) -> Recipe:
    shares = {name: getattr(args, name) for name in ("jpeg_share", "sharp_share", "soft_share")}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise UsageError(f"--{name.replace('_', '-')}: expected 0 to 1, got {share}")
    if not 0 < args.max_radius <= _WIDEST:
        raise UsageError(
            f"--max-radius: expected more than 0 pixels, up to {_WIDEST:g}, got {args.max_radius}"
        )
    drawn = rich(args.max_radius, views=args.views, misaligned=args.misaligned)
    return replace(drawn, **shares)
