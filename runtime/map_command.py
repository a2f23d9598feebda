"""`allfocus map`: the blur radius of what a dual-pixel sensor took, from its two views."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED
from allfocus.runtime.errors import AllfocusError, InputError
from allfocus.runtime.load import load_model
from allfocus.runtime.map_jobs import Views, plan_views
from allfocus.runtime.model import Model
from allfocus.runtime.model_options import add_engine_options
from allfocus.runtime.pictures.image import Picture, read_image, write_image
from allfocus.runtime.pictures.metadata import orientation, orientation_only
from allfocus.runtime.pictures.radius import MAP_UNITS, WIDEST, coded
from allfocus.runtime.spec import Precision
from allfocus.runtime.views import check_takes_views, radius_of_views
from allfocus.runtime.work import about, add_max_pixels, within_memory

# 8 bits are for what makes pictures sharp
_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
_ABOUT = f"""\
LEFT and RIGHT are two pictures, or two folders with the views of each picture under one name: what
the left and the right half of the lens saw, as the sensor had them. If the picture's file says that
it is to be turned (EXIF), so must theirs. NAME-defocus.png is 16-bit grey, the blur radius in
pixels times {MAP_UNITS}, up to {WIDEST:g}; with it
  allfocus deblur PICTURES -o SHARP --map-from OUT
makes sharp the pictures of the whole lens, which have the names of their views.
"""


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    """A map that was made, in so many milliseconds, or why it was not."""

    job: Views
    milliseconds: float = 0.0
    error: AllfocusError | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus map`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("left", type=Path, metavar="LEFT", help="the left views: a file or a folder")
    add("right", type=Path, metavar="RIGHT", help="the right views, named alike")
    add("-o", "--out", type=Path, required=True, help="a folder, or NAME.png for one map")
    add_engine_options(parser, default="dualpixel-map-lite", precisions=_PRECISIONS)
    add_max_pixels(parser)
    add("--recursive", action="store_true", help="look into the folders of folders too")
    add("--overwrite", action="store_true", help="write over maps that are there")
    add("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Make all maps; DONE, or FAILED where one of them failed."""
    jobs = plan_views(
        args.left, args.right, args.out, recursive=args.recursive, overwrite=args.overwrite
    )
    with load_model(
        args.model,
        backend=args.backend,
        precision=args.precision,
        device=args.device,
        threads=args.threads,
    ) as model:
        check_takes_views(model)
        if model.spec.untrained:
            print(f"allfocus: {model.spec.name}: {model.spec.weights}", file=sys.stderr)
        outcomes = list(_make_all(model, jobs, args))
        told = about(model)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if args.json:
        print(json.dumps({**told, **_as_json(outcomes)}))
    elif failed:
        print(f"allfocus: {len(failed)} of {len(jobs)} maps failed", file=sys.stderr)
    return FAILED if failed else DONE


def _make_all(model: Model, jobs: Sequence[Views], args: argparse.Namespace) -> Iterator[_Outcome]:
    # `disable=None`: no bar where stderr is not a terminal
    with tqdm(jobs, unit="map", disable=None if len(jobs) > 1 else True) as bar:
        for job in bar:
            started = time.perf_counter()
            try:
                make_map(model, job, args.max_pixels)
            except AllfocusError as error:
                outcome = _Outcome(job=job, error=error)
            else:
                took = 1e3 * (time.perf_counter() - started)
                outcome = _Outcome(job=job, milliseconds=took)
            with suppress(BrokenPipeError):  # nobody reads it any more: maps are made all the same
                _tell(outcome, quiet=args.json)
            yield outcome


def _tell(outcome: _Outcome, quiet: bool) -> None:
    job, error = outcome.job, outcome.error
    if error is not None:
        tqdm.write(f"allfocus: {error}", file=sys.stderr)
    elif not quiet:
        took = f"{outcome.milliseconds:.0f} ms"
        tqdm.write(f"{job.left} + {job.right} -> {job.target}  {took}")


def make_map(model: Model, job: Views, max_pixels: int) -> None:
    """Read two views and write their map, with the orientation of the left one.

    Raises InputError for views that cannot be read, or do not belong together (LimitError where
    there is only too little memory for them), and AllfocusError where the engine fails or the map
    cannot be written.
    """
    within_memory(job.left, lambda: _make_map(model, job, max_pixels))


def _make_map(model: Model, job: Views, max_pixels: int) -> None:
    left, right = (read_image(path, max_pixels=max_pixels) for path in (job.left, job.right))
    _check_alike(job, left, right)
    try:
        radius = radius_of_views(model, left.frame(), right.frame())
    except InputError as error:
        raise type(error)(f"{job.left}: {error}") from error
    labels = orientation_only(left.metadata)
    pixels = coded(radius)
    write_image(job.target, Picture(pixels=pixels, metadata=labels, format="PNG", lossless=True))


def _check_alike(job: Views, left: Picture, right: Picture) -> None:
    """Raise InputError for views that cannot be of one picture."""
    kinds = [f"{each.pixels.dtype} {list(each.pixels.shape)}" for each in (left, right)]
    turns = [orientation(each.metadata) for each in (left, right)]
    if kinds[0] != kinds[1]:
        raise InputError(
            f"{job.left} is {kinds[0]} and {job.right} {kinds[1]}: expected two views of one "
            "picture, of one size and type"
        )
    if turns[0] != turns[1]:
        raise InputError(
            f"{job.left} and {job.right} are turned differently (EXIF orientation {turns[0]} and "
            f"{turns[1]}): expected both as the sensor had them"
        )


def _as_json(outcomes: Sequence[_Outcome]) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for each in outcomes:
        views = {"left": str(each.job.left), "right": str(each.job.right)}
        if each.error is None:
            made.append({**views, "map": str(each.job.target), "milliseconds": each.milliseconds})
        else:
            kind = type(each.error).__name__
            failed.append({**views, "error": str(each.error), "kind": kind})
    return {"maps": made, "failed": failed}
