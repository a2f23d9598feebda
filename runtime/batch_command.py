"""`allfocus batch`: `allfocus deblur` for many pictures, on all cores and GPUs, or on a cluster."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from allfocus.runtime import work
from allfocus.runtime.batch import Settings, remaining, run_local, workers_for
from allfocus.runtime.batch_ray import run_ray
from allfocus.runtime.command import DONE, FAILED, positive
from allfocus.runtime.errors import UsageError
from allfocus.runtime.files import check_folder
from allfocus.runtime.jobs import Job, Naming, names_a_file, plan
from allfocus.runtime.lock import locked
from allfocus.runtime.model_options import opened
from allfocus.runtime.work import Done, Failure

ENGINES = ("local", "ray")

_ABOUT = """\
Each worker holds one model; on a CPU there is one for each core. Killed at any moment, the same
command with --resume does what is not there yet. On a Ray cluster (--engine ray --address auto)
inputs and outputs are on storage that all machines see under the same names.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus batch`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("inputs", nargs="*", metavar="IN", help="files, folders, or patterns such as 'a/**/*.jpg'")
    add("--list", type=Path, metavar="FILE", help="take the inputs from its lines; -: from stdin")
    add("-o", "--out", type=Path, required=True, help="a folder")
    add("--recursive", action="store_true", help="look into the folders of folders too")
    add("--resume", action="store_true", help="leave out what is there already; not over inputs")
    add("--overwrite", action="store_true", help="write over files that are there, even inputs")
    add("--workers", type=positive, default=0, help="how many (default: GPUs, else cores)")
    add("--engine", choices=ENGINES, default="local", help="where workers are (%(default)s)")
    add("--address", help="of a Ray cluster, such as auto (default: one on this machine)")
    add("--json", action="store_true", help="print one JSON object at the end")
    work.add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Do all pictures; DONE, or FAILED where one of them failed."""
    naming = work.naming(args)
    planned = _plan(args, naming)
    work.check_quality(args.quality, planned)
    settings = _settings(args)
    with opened(replace(settings, threads=1)) as deblur:  # what is wrong with it shows here
        work.check_maps(naming, deblur)
        if deblur.spec.untrained:
            print(f"allfocus: {deblur.spec.name}: {deblur.spec.weights}", file=sys.stderr)
        about = work.about(deblur)
    lock = args.out / ".allfocus-batch.lock"
    with locked(lock, lambda: _refuse(args.out), advice="choose another --out"):
        jobs = remaining(planned) if args.resume else planned
        outcomes = _all(jobs, settings, args)
    about["there_already"] = len(planned) - len(jobs)
    _report(outcomes, about, args)
    return FAILED if any(isinstance(each, Failure) for each in outcomes) else DONE


def _plan(args: argparse.Namespace, naming: Naming) -> list[Job]:
    """All jobs; raises UsageError for options that cannot be meant."""
    if args.resume and args.overwrite:
        raise UsageError(
            "--resume leaves out what is there, --overwrite writes over it: give one of them"
        )
    if args.address is not None and args.engine != "ray":
        raise UsageError("--address is that of a Ray cluster: for --engine ray only")
    check_folder(args.out)
    if names_a_file(args.out):
        raise UsageError(
            f"--out {args.out}: the name of a picture, where a folder was expected; give a "
            "folder, or make one picture with `allfocus deblur`"
        )
    return plan(
        _inputs(args),
        args.out,
        naming,
        recursive=args.recursive,
        overwrite=args.overwrite,
        resume=args.resume,
    )


def _all(jobs: Sequence[Job], settings: Settings, args: argparse.Namespace) -> list[Done | Failure]:
    outcomes: list[Done | Failure] = []
    with tqdm(total=len(jobs), unit="picture", disable=None) as bar:
        for outcome in _stream(jobs, settings, args):
            outcomes.append(outcome)
            work.tell(outcome, quiet=args.json)
            bar.update()
    return outcomes


def _settings(args: argparse.Namespace) -> Settings:
    return Settings(
        model=args.model,
        backend=args.backend,
        memory=args.memory,
        skip=args.skip,
        check=args.check,
        fallback=args.fallback,
        ensemble=args.ensemble,
        reach=args.reach,
        quality=args.quality,
        max_pixels=args.max_pixels,
        threads=args.threads,
        device=args.device,
        precision=args.precision,
    )


def _stream(
    jobs: Sequence[Job], settings: Settings, args: argparse.Namespace
) -> Iterator[Done | Failure]:
    if not jobs:
        return iter(())
    if args.engine == "ray":
        return run_ray(jobs, settings, count=args.workers, address=args.address)
    return run_local(jobs, workers_for(settings, args.workers, len(jobs)))


def _inputs(args: argparse.Namespace) -> list[str]:
    """Those of the command line and of the list."""
    listed: list[str] = []
    if args.list is not None:
        try:
            text = sys.stdin.read() if str(args.list) == "-" else args.list.read_text("utf-8")
            text = text.removeprefix("\ufeff")  # Windows puts a byte order mark before it
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--list {args.list}: {error}") from None
        listed = [line for line in text.splitlines() if line.strip()]  # blanks may be of a name
    if not listed and not args.inputs:
        raise UsageError("no inputs: name files, folders or patterns, or give --list FILE")
    return [*args.inputs, *listed]


def _refuse(out: Path) -> None:
    raise UsageError(f"{out}: another `allfocus batch` writes there; wait for it, or stop it")


def _report(
    outcomes: Sequence[Done | Failure], about: dict[str, Any], args: argparse.Namespace
) -> None:
    failed = sum(isinstance(each, Failure) for each in outcomes)
    if args.json:
        done = [work.done_as_json(each) for each in outcomes if isinstance(each, Done)]
        failures = [work.failure_as_json(each) for each in outcomes if isinstance(each, Failure)]
        print(json.dumps({**about, "files": done, "failed": failures}))
        return
    if about["there_already"]:
        print(f"allfocus: {about['there_already']} were there already", file=sys.stderr)
    if failed:
        print(f"allfocus: {failed} of {len(outcomes)} pictures failed", file=sys.stderr)
