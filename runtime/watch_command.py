"""`allfocus watch`: a folder in which pictures arrive, and one in which they appear sharp."""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED
from allfocus.runtime.errors import UsageError
from allfocus.runtime.ledger import FOLDER, Ledger
from allfocus.runtime.lock import locked
from allfocus.runtime.model_options import opened
from allfocus.runtime.stopping import Stop
from allfocus.runtime.watch import Plan, Watch
from allfocus.runtime.work import (
    Done,
    Failure,
    add_options,
    check_maps,
    do_one,
    done_as_json,
    failure_as_json,
    naming,
    tell,
)

_ABOUT = """\
Each picture is done once: OUT/.allfocus-watch remembers it, also where its output was taken away.
A picture that is replaced is done again; a damaged one is reported, and not tried again until it is
replaced; one that --memory or --max-pixels refuses, or for which the machine has too little memory,
is tried again at the next start. Hidden files are passed over, and what stands in OUT where that is
within DIR. Ctrl-C and SIGTERM end after the picture in hand, a second one at once. Whatever kills
the program, the next start goes on where it was, and no output is ever half-written. A picture at
which it was killed comes last then; a start that follows three such kills in a row passes it over.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus watch`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="where pictures arrive")
    add("-o", "--out", type=Path, required=True, metavar="OUT", help="the folder of the results")
    add("--every", type=_seconds, default=1.0, metavar="S", help="look each S seconds (1)")
    add(
        "--settle",
        type=_seconds,
        default=1.0,
        metavar="S",
        help="take a picture when size and time have stayed for S seconds (1)",
    )
    add("--once", action="store_true", help="do what is there, then end")
    add_options(parser)
    add("--recursive", action="store_true", help="look into the folders of DIR too")
    add("--overwrite", action="store_true", help="write over files that this watch did not make")
    add("--json", action="store_true", help="print a JSON object a line for each picture")


def run(args: argparse.Namespace) -> int:
    """Watch until a signal; with --once FAILED where a picture failed."""
    plan = _plan(args)
    _check_folders(plan)
    with _alone(plan):
        return _watch(plan, args)


def _plan(args: argparse.Namespace) -> Plan:
    return Plan(
        folder=args.folder,
        out=args.out,
        naming=naming(args),
        recursive=args.recursive,
        overwrite=args.overwrite,
        every=args.every,
        settle=args.settle,
        once=args.once,
    )


def _check_folders(plan: Plan) -> None:
    """Refuse what is no folder, and outputs that would be taken for arrivals."""
    folder, out = plan.folder, plan.out
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing there"
        raise UsageError(f"{folder}: {what}, where a folder to watch was expected")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: a file, where a folder was expected; give another --out")
    watched, written = (Path(os.path.normcase(os.path.realpath(p))) for p in (folder, out))
    if watched == written or (plan.recursive and written in watched.parents):
        where = "the watched folder itself" if watched == written else f"a folder above {folder}"
        raise UsageError(
            f"--out {out} is {where}, so that outputs would be taken for arrivals; choose another "
            f"folder, such as {folder / 'sharp'}"
        )


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Keep every other watch from writing to the same folder."""
    path = plan.out / FOLDER / "lock"

    def refuse() -> None:
        holder = "it does not say which"
        with suppress(OSError):  # Windows lets nobody read it
            holder = path.read_text(encoding="utf-8", errors="replace").strip() or holder
        raise UsageError(
            f"{plan.out} is written by another `allfocus watch` ({holder}): end that one first, or "
            "choose another --out"
        )

    with locked(path, refuse, advice="choose another --out"):
        with suppress(OSError):  # nor write it
            text = f"process {os.getpid()} on {socket.gethostname()}, watching {plan.folder}\n"
            path.write_text(text, encoding="utf-8", errors="replace")
        yield


def _watch(plan: Plan, args: argparse.Namespace) -> int:
    with opened(args) as deblur:
        check_maps(plan.naming, deblur)
        if deblur.spec.untrained:
            _say(f"{deblur.spec.name}: {deblur.spec.weights}")
        with Stop("picture") as stop:
            watch = Watch(
                plan,
                Ledger(plan.out, plan.folder),
                work=partial(do_one, deblur, quality=args.quality, max_pixels=args.max_pixels),
                tell=_tell_as_json if args.json else partial(tell, quiet=False),
                say=_say,
                stopping=lambda: stop.asked,
            )
            watch.run()
    return FAILED if plan.once and watch.failures else DONE


def _say(message: str) -> None:
    tqdm.write(f"allfocus: {message}", file=sys.stderr)


def _tell_as_json(outcome: Done | Failure) -> None:
    """Report one picture as a line of JSON, beside what `tell` has for stderr."""
    tell(outcome, quiet=True)
    entry = done_as_json(outcome) if isinstance(outcome, Done) else failure_as_json(outcome)
    tqdm.write(json.dumps(entry))


def _seconds(text: str) -> float:
    """An argparse type: a length of time."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to 86400, got {text!r}")
    return value
