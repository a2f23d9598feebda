"""One picture made sharp and reported: what `allfocus deblur` and `allfocus watch` share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from allfocus.runtime.command import positive
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, InputError, LimitError, UsageError
from allfocus.runtime.jobs import Job, Naming
from allfocus.runtime.model import Model
from allfocus.runtime.model_options import add_model_options
from allfocus.runtime.pictures.formats import format_for
from allfocus.runtime.pictures.image import (
    MAX_PIXELS,
    OPENCV_MAX_PIXELS,
    Picture,
    read_image,
    too_little_memory,
    write_image,
)
from allfocus.runtime.pictures.metadata import Metadata, orientation, orientation_only, upright
from allfocus.runtime.pictures.radius import coded, read_radius
from allfocus.runtime.reach import MOST

T = TypeVar("T")

Planes = dict[str, NDArray[np.float32] | None]

_NEARLY = 0.95  # of the largest radius: where a map says no more
_MUCH = 0.1  # of a picture
_WITH_QUALITY = {"JPEG", "WebP"}


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one picture."""

    job: Job
    width: int  # pixels
    height: int
    timings: dict[str, float]  # milliseconds
    skipped: float  # share of its pixels that were in focus and passed through
    notes: tuple[str, ...]  # what could not be carried over, or is out of the model's reach
    trust: float | None = None  # mean over the picture, where outputs are checked


@dataclass(frozen=True)
class Failure:
    """A picture that could not be done, and why."""

    job: Job
    error: AllfocusError


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the model and of the pictures."""
    add = parser.add_argument
    add("--map", action="store_true", help="also write NAME-defocus.png, the blur radius")
    add("--map-view", action="store_true", help="also write the map in colours, to look at")
    add(
        "--trust",
        action="store_true",
        help="also write NAME-trust.png; takes --check or --fallback",
    )
    add_model_options(parser, default="didanet-lite", each="a picture")
    # argparse takes a value that begins with "-" only behind "="
    add("--suffix", default="", help="put this behind each name, as in --suffix=-sharp")
    quality = "of JPEG and lossy WebP (default: the source's, and at least 95)"
    add("--quality", type=_percent, help=quality)
    add_max_pixels(parser)


def add_max_pixels(parser: argparse.ArgumentParser) -> None:
    """How large a picture may be."""
    most = "refuse larger pictures: width times height, such as 500M (200M)"
    parser.add_argument("--max-pixels", type=_pixels, default=MAX_PIXELS, metavar="N", help=most)


def naming(args: argparse.Namespace) -> Naming:
    """What these options say about outputs."""
    return Naming(suffix=args.suffix, defocus=args.map, view=args.map_view, trust=args.trust)


def check_maps(naming: Naming, deblur: Deblurrer) -> None:
    """Raise UsageError for maps that the model does not make."""
    if naming.trust and not deblur.checks:
        raise UsageError("--trust: outputs are not checked; add --check, or --fallback")
    outputs = deblur.graph.signature.outputs
    if naming.defocus and "defocus" not in outputs:
        seen = "; --map-view shows what it takes to be in focus" if "focus" in outputs else ""
        raise UsageError(f"{deblur.spec.name} estimates no defocus; leave out --map{seen}")
    if naming.view and not {"defocus", "focus"} & set(outputs):
        raise UsageError(f"{deblur.spec.name} estimates no defocus; leave out --map-view")


def check_quality(quality: int | None, jobs: Iterable[Job]) -> None:
    """Raise UsageError for a `quality` that no output has."""
    if quality is None:
        return
    kinds = {format_for(job.target).name for job in jobs}
    if kinds and not kinds & _WITH_QUALITY:
        raise UsageError(
            f"--quality is that of JPEG and WebP, and outputs are {' and '.join(sorted(kinds))}, "
            "without loss; leave it out"
        )


def do_one(deblur: Deblurrer, job: Job, quality: int | None, max_pixels: int) -> Done:
    """Read a picture, make it sharp, and write all outputs of `job`.

    Raises InputError for a picture that cannot be read, processed or encoded (LimitError where it
    is only larger than is allowed, or than there is memory for), and AllfocusError where the engine
    fails or an output cannot be written.
    """
    return within_memory(job.source, lambda: _do_one(deblur, job, quality, max_pixels))


def within_memory(source: Path, act: Callable[[], T]) -> T:
    """What `act` gives, which is done to the picture `source`.

    Raises LimitError where there is too little memory for it, and what `act` raises.
    """
    try:
        return act()
    except InputError as error:
        refused = type(error)(str(error))
    except (MemoryError, cv2.error) as error:
        lack = too_little_memory(error)
        if lack is None:
            raise
        refused = LimitError(f"{source}: {lack}")
    # Raised out here it has no context, whose frames keep the picture: errors may be collected.
    raise refused


def _do_one(deblur: Deblurrer, job: Job, quality: int | None, max_pixels: int) -> Done:
    picture = read_image(job.source, max_pixels=max_pixels)
    given = None
    if job.given is not None:
        given = read_radius(job.given, orientation(picture.metadata), max_pixels=max_pixels)
    try:
        sharp, blur, result = _sharpen(deblur, picture, given)
    except InputError as error:
        raise type(error)(f"{job.source}: {error}") from error
    notes = picture.notes + write_image(job.target, sharp, quality=quality)
    planes = {"blur": blur, "trust": result.trust}
    _write_maps(job, picture, planes, deblur.largest_radius or 1.0)
    height, width = picture.pixels.shape[:2]
    return Done(
        job=job,
        width=width,
        height=height,
        timings=result.timings,
        skipped=result.skipped,
        notes=notes + (() if given is not None else _beyond(deblur, result)),
        trust=None if result.trust is None else float(result.trust.mean()),
    )


def _beyond(deblur: Deblurrer, result: Result) -> tuple[str, ...]:
    """What to do where much of a picture is blurred by more than is undone."""
    most, possible = deblur.largest_radius, MOST * deblur.spec.max_radius
    if result.defocus is None or most >= possible:
        return ()
    share = float(np.mean(result.defocus >= _NEARLY * most))
    if share < _MUCH:
        return ()
    told = deblur.spec.name if deblur.reach is None else f"--reach {deblur.reach:g}"
    return (
        f"{share:.0%} of it is blurred by some {most:g} pixels or more, which is beyond "
        f"{told}: try --reach {min(4 * most, possible):g}",
    )


def _sharpen(
    deblur: Deblurrer, picture: Picture, given: NDArray[np.float32] | None
) -> tuple[Picture, NDArray[np.float32] | None, Result]:
    """`picture` made sharp, its blur [H, W], and what the model gave; under a `given` map of radii,
    where there is one.

    The blur is its radius in pixels, or 1 less the focus where a model estimates that.
    """
    result = deblur(picture.frame(), defocus=given)
    blur = result.defocus if result.focus is None else 1 - result.focus
    return picture.with_frame(result.image), blur, result


def _write_maps(job: Job, picture: Picture, planes: Planes, max_radius: float) -> None:
    """Write the maps [H, W] that are wanted: the blur as numbers and in colours, and the trust."""
    labels = orientation_only(picture.metadata)
    if not format_for(job.target).exif:  # the picture was turned: so are its maps
        turn = orientation(picture.metadata)
        planes = {n: None if p is None else upright(p, turn) for n, p in planes.items()}
        labels = Metadata()
    blur, trust = planes["blur"], planes["trust"]
    if job.defocus is not None and blur is not None:
        write_image(job.defocus, _plain_png(coded(blur), labels))
    if job.view is not None and blur is not None:
        colors = cv2.applyColorMap(_levels(blur / max_radius), cv2.COLORMAP_VIRIDIS)
        write_image(job.view, _plain_png(colors, labels))
    if job.trust is not None and trust is not None:
        write_image(job.trust, _plain_png(_levels(trust), labels))


def _levels(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """From [0, 1] to 8 bits."""
    return np.rint(np.clip(plane, 0, 1) * 255).astype(np.uint8)


def _plain_png(pixels: NDArray[Any], metadata: Metadata) -> Picture:
    return Picture(pixels=pixels, metadata=metadata, format="PNG", lossless=True)


def tell(outcome: Done | Failure, quiet: bool) -> None:
    """Report one picture: what was written to stdout, what went wrong to stderr.

    Where nobody reads that any more (`| head`), the pictures are done all the same.
    """
    with suppress(BrokenPipeError):
        _tell(outcome, quiet)


def _tell(outcome: Done | Failure, quiet: bool) -> None:
    if isinstance(outcome, Failure):
        tqdm.write(f"allfocus: {outcome.error}", file=sys.stderr)
        return
    for note in outcome.notes:
        tqdm.write(f"allfocus: {outcome.job.source}: {note}", file=sys.stderr)
    if not quiet:
        size = f"{outcome.width}x{outcome.height}"
        took = sum(outcome.timings.values())
        more = f", {outcome.skipped:.0%} in focus" if outcome.skipped else ""
        more += "" if outcome.trust is None else f", trust {outcome.trust:.2f}"
        tqdm.write(f"{outcome.job.source} -> {outcome.job.target}  {size}, {took:.0f} ms{more}")


def about(model: Deblurrer | Model) -> dict[str, Any]:
    """The model and what runs it, in plain values."""
    return {
        "model": model.spec.name,
        "backend": model.backend,
        "precision": model.precision,
    }


def done_as_json(done: Done) -> dict[str, Any]:
    """A picture that was done in plain values; `milliseconds` by phase."""
    return {
        "input": str(done.job.source),
        "output": str(done.job.target),
        **{name: _text(getattr(done.job, name)) for name in ("defocus", "view")},
        "trust_map": _text(done.job.trust),
        "map_from": _text(done.job.given),
        "width": done.width,
        "height": done.height,
        "milliseconds": done.timings,
        "skipped": done.skipped,
        "trust": done.trust,
        "notes": list(done.notes),
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def failure_as_json(failure: Failure) -> dict[str, Any]:
    """A failure in plain values."""
    error = failure.error
    return {
        "input": str(failure.job.source),
        "error": str(error),
        "kind": type(error).__name__,
    }


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
