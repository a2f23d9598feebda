"""Real defocus, before and after: crops of photos beside what each model makes of them.

`allfocus bench gallery PHOTO ... --out FILE`. There is no truth for such photos; one looks for
halos, invented texture and colours that shift. Of each photo two windows are shown: where the
models change it most, and where it has most detail, which is in focus and should stay as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from allfocus.benchmarks import candidates, photos
from allfocus.benchmarks.quality_sheet import column
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.errors import UsageError
from allfocus.runtime.pictures.formats import format_for
from allfocus.train.evaluation_pair import Frame, Pair
from allfocus.train.metrics import psnr
from allfocus.train.picture_file import write_picture

_JPEG_QUALITY = 92
Window = tuple[slice, slice]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench gallery`."""
    add = parser.add_argument
    add("photos", nargs="*", default=[photos.CHELSEA], help=photos.HELP)
    add("--model", default="all", metavar="NAME,...", help="default: all that are packaged")
    add("--width", type=positive, default=800, help="larger photos are reduced to this (800)")
    add("--reach", type=float, metavar="PIXELS", help="also the models with this reach, that can")
    add("--side", type=positive, default=160, help="of a window, pixels (160)")
    add("--out", type=Path, required=True, help="the picture to write, .jpg or .png")
    add("--backend", default="auto")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Run all models on all photos, write the picture, print how much was left as it was."""
    format_for(args.out)  # told before minutes of work
    opened = photos.open_photos(args.photos)
    reduced = {name: _reduced(image, args.width) for name, image in opened.items()}
    for name, image in reduced.items():
        if min(image.shape[:2]) < args.side:
            raise UsageError(f"{name}: smaller than a window of {args.side}; use a smaller --side")
    models = candidates.names(args.model, candidates.deblurring())
    reaches = candidates.reaches(models, args.reach)
    outputs = {
        name if reach is None else f"{name}, reach {reach:g}": _outputs(
            name, reduced, args.backend, reach
        )
        for name in models
        for reach in dict.fromkeys((None, reaches[name]))
    }
    windows = {name: _windows(name, image, outputs, args.side) for name, image in reduced.items()}
    columns = {"input": reduced, **outputs}
    picture = np.hstack([_column(head, made, windows) for head, made in columns.items()])
    write_picture(args.out, picture[..., ::-1], quality=_JPEG_QUALITY)
    kept = {
        model: {
            name: round(_unchanged(image, made[name], windows[name][1]), 2)
            for name, image in reduced.items()
        }
        for model, made in outputs.items()
    }
    print(json.dumps(kept) if args.json else _text(kept, args.out))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("gallery", "Real defocus, before and after.", add_arguments, run, argv)


def most(score: NDArray[np.float32], side: int) -> Window:
    """The window of `side` x `side` pixels with the largest sum."""
    sums = cv2.integral(score, sdepth=cv2.CV_64F)
    inside = sums[side:, side:] - sums[side:, :-side] - sums[:-side, side:] + sums[:-side, :-side]
    top, left = (int(place) for place in np.unravel_index(np.argmax(inside), inside.shape))
    return slice(top, top + side), slice(left, left + side)


def _outputs(
    model: str, images: dict[str, Frame], backend: str, reach: float | None
) -> dict[str, Frame]:
    with candidates.open_model(model, backend, 0, reach=reach) as candidate:
        made = {}
        for name, image in tqdm(images.items(), model, leave=False, disable=None):
            pair = Pair(name, image, None, None, None)
            output = candidate.run(pair, image).image
            if output is None:
                raise UsageError(f"{model} gives no picture, only a map; take a deblurring model")
            made[name] = output
        return made


def _windows(
    name: str, image: Frame, outputs: dict[str, dict[str, Frame]], side: int
) -> tuple[Window, Window]:
    changes = [np.abs(made[name].astype(np.float32) - image).mean(2) for made in outputs.values()]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    return most(np.mean(changes, axis=0, dtype=np.float32), side), most(detail, side)


def _column(head: str, made: dict[str, Frame], windows: dict[str, tuple[Window, Window]]) -> Frame:
    crops = [made[name][window] for name, pair in windows.items() for window in pair]
    side = len(crops[0])
    return column(head, dict(enumerate(crops)), side, 1)


def _unchanged(before: Frame, after: Frame, window: Window) -> float:
    pair = (image[window].astype(np.float32) / 255 for image in (after, before))
    return min(99.0, psnr(*pair))


def _reduced(image: Frame, width: int) -> Frame:
    if image.shape[1] <= width:
        return image
    height = round(image.shape[0] * width / image.shape[1])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _text(kept: dict[str, dict[str, float]], out: Path) -> str:
    lines = [f"{out}: where a photo has most detail, PSNR of the output to the input in dB"]
    for model, values in kept.items():
        said = ", ".join(f"{name} {value:.1f}" for name, value in values.items())
        lines.append(f"  {model}: {said}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
