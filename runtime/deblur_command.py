"""`allfocus deblur`: pictures in, sharp pictures out, the defocus map beside them where asked."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from allfocus.runtime import skip as skips
from allfocus.runtime.command import DONE, FAILED, positive
from allfocus.runtime.deblurrer import MEMORY, Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.runtime.jobs import Job, Naming, plan
from allfocus.runtime.load import load
from allfocus.runtime.pictures.formats import format_for
from allfocus.runtime.pictures.image import (
    MAX_PIXELS,
    OPENCV_MAX_PIXELS,
    Picture,
    read_image,
    write_image,
)
from allfocus.runtime.pictures.metadata import Metadata, orientation, orientation_only, upright

MAP_UNITS = 256  # steps a pixel of blur radius in NAME-defocus.png

_ABOUT = f"""\
Pictures are PNG, JPEG, TIFF, WebP or BMP. A failing one is reported, the others are done, and the
exit code is 1. EXIF, colour profile, XMP, bit depth, grey and alpha stay as they are. Pixels are
processed as stored and the orientation tag is kept, so that a viewer turns both pictures alike.
NAME-defocus.png is 16-bit grey: the blur radius in pixels times {MAP_UNITS}.
"""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one picture."""

    job: Job
    width: int  # pixels
    height: int
    timings: dict[str, float]  # milliseconds
    skipped: float  # share of its pixels that were in focus and passed through
    notes: tuple[str, ...]  # what could not be carried over


@dataclass(frozen=True)
class Failure:
    """A picture that could not be done, and why."""

    job: Job
    error: AllfocusError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus deblur`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("inputs", nargs="+", metavar="IN", help="files, folders, or patterns such as 'a/**/*.jpg'")
    add("-o", "--out", type=Path, required=True, help="a folder, or a file where IN is one file")
    add("--map", action="store_true", help="also write NAME-defocus.png, the blur radius")
    add("--map-view", action="store_true", help="also write the map in colours, to look at")
    add("--model", default="didanet", help="a name, an .onnx or an .engine file (%(default)s)")
    add("--backend", default="auto", help="auto, tensorrt, tensorrt-rtx, cuda or cpu (%(default)s)")
    add("--device", type=int, default=0, help="index of the GPU (%(default)s)")
    add("--threads", type=int, default=0, help="of the CPU; 0: all there are")
    add("--memory", default=MEMORY, help="for a picture, beside the model; larger ones: in tiles")
    add("--skip", type=skips.argument, default=skips.AUTO, help=skips.HELP)
    add("--recursive", action="store_true", help="look into the folders of folders too")
    add("--suffix", default="", help="put this behind each name, such as -sharp")
    add("--overwrite", action="store_true", help="write over files that are there, even inputs")
    add(
        "--quality",
        type=_percent,
        help="of JPEG and lossy WebP (default: the source's, and at least 95)",
    )
    add(
        "--max-pixels",
        type=_pixels,
        default=MAX_PIXELS,
        metavar="N",
        help="refuse larger pictures: width times height, such as 500M (200M)",
    )
    add("--stop-at-error", action="store_true", help="do not go on after a failing picture")
    add("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Do all pictures; DONE, or FAILED where one of them failed."""
    naming = Naming(suffix=args.suffix, defocus=args.map, view=args.map_view)
    jobs = plan(args.inputs, args.out, naming, recursive=args.recursive, overwrite=args.overwrite)
    with load(
        args.model,
        backend=args.backend,
        device=args.device,
        threads=args.threads,
        memory=args.memory,
        skip=args.skip,
    ) as deblur:
        _check_maps(naming, deblur)
        if deblur.spec.untrained:
            print(f"allfocus: {deblur.spec.name}: {deblur.spec.weights}", file=sys.stderr)
        outcomes = _do_all(deblur, jobs, args)
        about = {"model": deblur.spec.name, "backend": deblur.backend}
    failures = [o for o in outcomes if isinstance(o, Failure)]
    if args.json:
        print(json.dumps({**about, **_as_json(outcomes)}))
    elif failures:
        print(f"allfocus: {_count(len(failures), len(outcomes), len(jobs))}", file=sys.stderr)
    return FAILED if failures else DONE


def _check_maps(naming: Naming, deblur: Deblurrer) -> None:
    """Refuse maps that the model does not make."""
    outputs = deblur.graph.signature.outputs
    if naming.defocus and "defocus" not in outputs:
        seen = "; --map-view shows what it takes to be in focus" if "focus" in outputs else ""
        raise UsageError(f"{deblur.spec.name} estimates no defocus; leave out --map{seen}")
    if naming.view and not {"defocus", "focus"} & set(outputs):
        raise UsageError(f"{deblur.spec.name} estimates no defocus; leave out --map-view")


def _do_all(
    deblur: Deblurrer, jobs: Sequence[Job], args: argparse.Namespace
) -> list[Done | Failure]:
    outcomes: list[Done | Failure] = []
    # `disable=None`: no bar where stderr is not a terminal
    with tqdm(jobs, unit="picture", disable=None if len(jobs) > 1 else True) as bar:
        for job in bar:
            try:
                outcome: Done | Failure = _do_one(deblur, job, args.quality, args.max_pixels)
            except AllfocusError as error:
                outcome = Failure(job, error)
            outcomes.append(outcome)
            _tell(outcome, quiet=args.json)
            if isinstance(outcome, Failure) and args.stop_at_error:
                break
    return outcomes


def _do_one(deblur: Deblurrer, job: Job, quality: int | None, max_pixels: int) -> Done:
    picture = read_image(job.source, max_pixels=max_pixels)
    try:
        sharp, blur, result = _sharpen(deblur, picture)
    except InputError as error:
        raise InputError(f"{job.source}: {error}") from error
    notes = picture.notes + write_image(job.target, sharp, quality=quality)
    if blur is not None:
        labels = orientation_only(picture.metadata)
        if not format_for(job.target).exif:  # the picture was turned: so is its map
            blur = upright(blur, orientation(picture.metadata))
            labels = Metadata()
        _write_map(job, blur, deblur.spec.max_radius or 1.0, labels)
    height, width = picture.pixels.shape[:2]
    return Done(
        job=job,
        width=width,
        height=height,
        timings=result.timings,
        skipped=result.skipped,
        notes=notes,
    )


def _sharpen(
    deblur: Deblurrer, picture: Picture
) -> tuple[Picture, NDArray[np.float32] | None, Result]:
    """`picture` made sharp, its blur [H, W], and what the model gave.

    The blur is its radius in pixels, or 1 less the focus where a model estimates that.
    A Deblurrer takes grey and BGRA as they are; grey with alpha goes in without it.
    """
    pixels = picture.pixels
    has_grey_alpha = pixels.ndim == 3 and pixels.shape[2] == 2
    result = deblur(np.ascontiguousarray(pixels[..., 0]) if has_grey_alpha else pixels)
    image = np.dstack((result.image, pixels[..., 1])) if has_grey_alpha else result.image
    blur = result.defocus if result.focus is None else 1 - result.focus
    return replace(picture, pixels=image), blur, result


def _write_map(job: Job, defocus: NDArray[np.float32], max_radius: float, labels: Metadata) -> None:
    """Write the map [H, W] as numbers (pixels of blur radius) and in colours, where wanted."""
    if job.defocus is not None:
        steps = np.clip(np.rint(defocus * MAP_UNITS), 0, 65535).astype(np.uint16)
        write_image(job.defocus, _plain_png(steps, labels))
    if job.view is not None:
        levels = np.rint(np.clip(defocus / max_radius, 0, 1) * 255).astype(np.uint8)
        colors = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)
        write_image(job.view, _plain_png(colors, labels))


def _plain_png(pixels: NDArray[Any], metadata: Metadata) -> Picture:
    return Picture(pixels=pixels, metadata=metadata, format="PNG", lossless=True)


def _tell(outcome: Done | Failure, quiet: bool) -> None:
    """Report one picture: what was written to stdout, what went wrong to stderr."""
    if isinstance(outcome, Failure):
        tqdm.write(f"allfocus: {outcome.error}", file=sys.stderr)
        return
    for note in outcome.notes:
        tqdm.write(f"allfocus: {outcome.job.source}: {note}", file=sys.stderr)
    if not quiet:
        size = f"{outcome.width}x{outcome.height}"
        took = sum(outcome.timings.values())
        spared = f", {outcome.skipped:.0%} in focus" if outcome.skipped else ""
        tqdm.write(f"{outcome.job.source} -> {outcome.job.target}  {size}, {took:.0f} ms{spared}")


def _as_json(outcomes: Sequence[Done | Failure]) -> dict[str, Any]:
    return {
        "files": [_done_as_json(o) for o in outcomes if isinstance(o, Done)],
        "failed": [
            {"input": str(o.job.source), "error": str(o.error), "kind": type(o.error).__name__}
            for o in outcomes
            if isinstance(o, Failure)
        ],
    }


def _done_as_json(done: Done) -> dict[str, Any]:
    return {
        "input": str(done.job.source),
        "output": str(done.job.target),
        "defocus": str(done.job.defocus) if done.job.defocus else None,
        "width": done.width,
        "height": done.height,
        "milliseconds": done.timings,
        "skipped": done.skipped,
        "notes": list(done.notes),
    }


def _count(failed: int, tried: int, planned: int) -> str:
    left = f", {planned - tried} not tried" if planned > tried else ""
    return f"{failed} of {planned} pictures failed{left}"


def _percent(text: str) -> int:
    value = positive(text)
    if value > 100:
        raise argparse.ArgumentTypeError(f"expected 1 to 100, got {text!r}")
    return value


def _pixels(text: str) -> int:
    """A number of pixels such as 500000, 200M or 1G."""
    units = {"k": 10**3, "M": 10**6, "G": 10**9}
    unit = units.get(text[-1:], 1)
    value = positive(text[:-1] if unit > 1 else text) * unit
    if value > OPENCV_MAX_PIXELS:
        raise argparse.ArgumentTypeError(f"OpenCV decodes at most 1G pixels, got {text!r}")
    return value
