"""`allfocus deblur`: pictures in, sharp pictures out, the defocus map beside them where asked."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.jobs import Job, plan
from allfocus.runtime.model_options import opened
from allfocus.runtime.pictures.radius import MAP_UNITS
from allfocus.runtime.work import (
    Done,
    Failure,
    about,
    add_options,
    check_maps,
    check_quality,
    do_one,
    done_as_json,
    failure_as_json,
    naming,
    tell,
)

_ABOUT = f"""\
Pictures are PNG, JPEG, TIFF, WebP or BMP. A failing one is reported, the others are done, and the
exit code is 1. EXIF, colour profile, XMP, bit depth, grey and alpha stay as they are. Pixels are
processed as stored and the orientation tag is kept, so that a viewer turns both pictures alike.
NAME-defocus.png is 16-bit grey: the blur radius in pixels times {MAP_UNITS}.
--map-from reads such maps, so that one can be mended, or come from elsewhere: a depth camera and
the lens, or the two views of a dual-pixel sensor (`allfocus map`).
NAME-trust.png is 8-bit grey: white where the output, blurred again, is the input.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus deblur`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("inputs", nargs="+", metavar="IN", help="files, folders, or patterns such as 'a/**/*.jpg'")
    add("-o", "--out", type=Path, required=True, help="a folder, or a file where IN is one file")
    add_options(parser)
    text = (
        "deblur by this map of blur radii, or by those in a folder: NAME-defocus.png of IN's NAME"
    )
    add("--map-from", type=Path, metavar="MAP", help=text)
    add("--recursive", action="store_true", help="look into the folders of folders too")
    add("--overwrite", action="store_true", help="write over files that are there, even inputs")
    add("--stop-at-error", action="store_true", help="do not go on after a failing picture")
    add("--json", action="store_true", help="print one JSON object instead of lines")


def run(args: argparse.Namespace) -> int:
    """Do all pictures; DONE, or FAILED where one of them failed."""
    names = naming(args)
    jobs = plan(
        args.inputs,
        args.out,
        names,
        recursive=args.recursive,
        overwrite=args.overwrite,
        maps=args.map_from,
    )
    check_quality(args.quality, jobs)
    with opened(args) as deblur:
        check_maps(names, deblur)
        if args.map_from is not None:
            deblur.check_guided()
        if deblur.spec.untrained:
            print(f"allfocus: {deblur.spec.name}: {deblur.spec.weights}", file=sys.stderr)
        outcomes = _do_all(deblur, jobs, args)
        model = about(deblur)
    failures = [o for o in outcomes if isinstance(o, Failure)]
    if args.json:
        left = len(jobs) - len(outcomes)
        print(json.dumps({**model, **_as_json(outcomes), "not_tried": left}))
    elif failures:
        print(f"allfocus: {_count(len(failures), len(outcomes), len(jobs))}", file=sys.stderr)
    return FAILED if failures else DONE


def _do_all(
    deblur: Deblurrer, jobs: Sequence[Job], args: argparse.Namespace
) -> list[Done | Failure]:
    outcomes: list[Done | Failure] = []
    # `disable=None`: no bar where stderr is not a terminal
    with tqdm(jobs, unit="picture", disable=None if len(jobs) > 1 else True) as bar:
        for job in bar:
            try:
                outcome: Done | Failure = do_one(deblur, job, args.quality, args.max_pixels)
            except AllfocusError as error:
                outcome = Failure(job, error)
            outcomes.append(outcome)
            tell(outcome, quiet=args.json)
            if isinstance(outcome, Failure) and args.stop_at_error:
                break
    return outcomes


def _as_json(outcomes: Sequence[Done | Failure]) -> dict[str, Any]:
    return {
        "files": [done_as_json(o) for o in outcomes if isinstance(o, Done)],
        "failed": [failure_as_json(o) for o in outcomes if isinstance(o, Failure)],
    }


def _count(failed: int, tried: int, planned: int) -> str:
    left = f", {planned - tried} not tried" if planned > tried else ""
    return f"{failed} of {planned} pictures failed{left}"
