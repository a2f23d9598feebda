"""`allfocus bench latency`: how long a frame takes, stage by stage, against eager PyTorch.

See benchmarks/README.md for how it is measured and what its figures mean.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from allfocus.benchmarks.common import (
    PHOTO,
    QUOTED,
    add_output_arguments,
    add_round_arguments,
    deliver,
    rounds,
    size,
)
from allfocus.benchmarks.contenders import Call, Contender, Frame
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.memory import peak
from allfocus.benchmarks.plan import (
    Field,
    Plan,
    open_baselines,
    open_classical,
    open_runtimes,
    open_source,
)
from allfocus.benchmarks.rows import Measured, make_rows, render
from allfocus.benchmarks.schema import LATENCY, LatencyReport, Quoted
from allfocus.runtime.catalogue import BASELINES, MODELS
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.pictures.image import read_image
from allfocus.runtime.probe import BACKENDS
from allfocus.runtime.spec import Size

_PAUSE = 0.02  # seconds before each call, in which the threads of the one before stop spinning
_CLASSICAL = f"also time deconvolution under the model's map: {', '.join(BASELINES)}"
NOTES = (
    "frame: the package's photo, resized; within each round the contenders take turns",
    "against eager: time of eager PyTorch on the same device / this one's, round by round",
    "peak: of a process of its own that loads the contender and deblurs one frame",
)
_PRE = "pre of a classical baseline: the model's whole call, which gives the map"


def measure(plan: Plan) -> LatencyReport:
    """Open all contenders, let them take turns, and report."""
    machine = describe()
    with ExitStack() as stack:
        source = stack.enter_context(open_source(plan))
        field, skipped = open_runtimes(plan, source, stack)
        first = next(iter(field.values()))
        if plan.baseline == "eager":
            field |= open_baselines(plan, list(field.values()), stack)
        field |= open_classical(plan, source, stack)
        measured = _time(plan, field)
    rows = make_rows(measured, plan.size)
    return LatencyReport(
        schema=LATENCY,
        machine=finish(machine),
        model=first.model,
        weights=first.weights,
        size=str(plan.size),
        precision=first.precision,
        threads=plan.cpu_threads,
        warmup=plan.warmup,
        repeats=len(rows[0].samples_ms),
        rows=rows,
        skipped=skipped,
        paper=_quoted(first.model, plan.size),
        notes=(*NOTES, _PRE) if plan.classical else NOTES,
    )


def photo(frame_size: Size) -> Frame:
    """The package's photo as a frame of this size: uint8 [H, W, 3], BGR."""
    image = read_image(PHOTO).pixels
    shape = (frame_size.width, frame_size.height)
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA), np.uint8)


def _time(plan: Plan, field: Field) -> list[Measured]:
    frame = photo(plan.size)
    pictures: dict[str, Frame] = {}

    def call(contender: Contender) -> Call:
        time.sleep(_PAUSE)
        pictures[contender.label], timed = contender.run(frame)
        return timed

    with tqdm(
        desc="rounds", total=plan.repeats and plan.warmup + plan.repeats, disable=None
    ) as bar:
        calls = rounds(
            {contender.label: partial(call, contender) for contender in field.values()},
            warmup=plan.warmup,
            repeats=plan.repeats,
            seconds=plan.seconds,
            tick=bar.update,
        )
    return [
        Measured(
            contender=contender,
            calls=calls[contender.label],
            picture=pictures[contender.label],
            memory=peak(recipe, plan.size),
        )
        for recipe, contender in field.items()
    ]


def _quoted(model: str, frame_size: Size) -> Quoted | None:
    """The paper's figures, where they are for the size that was measured."""
    paper = QUOTED.get(model)
    return paper if paper is not None and paper.size == str(frame_size) else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench latency`."""
    add = parser.add_argument
    add("--model", default="didanet", help=f"one of {', '.join(MODELS)}")
    add("--size", type=size, default=Size(600, 400), metavar="WxH", help="of the frame, in pixels")
    add("--backend", default="auto", help=f"auto, all, onnxruntime, {', '.join(BACKENDS)}")
    add("--artefact", type=Path, metavar="FILE", help="measure this .onnx or .engine file")
    add("--weights", metavar="FILE|random:SEED", help="export these first, to a temporary folder")
    add("--precision", choices=("fp32", "fp16"), help="of that export (fp32)")
    add("--baseline", choices=("eager", "none"), default="eager", help="what to compare with")
    add("--classical", type=_names, default=(), metavar="NAME,...", help=_CLASSICAL)
    add("--threads", type=positive, help="CPU threads of each contender (all there are)")
    add_round_arguments(parser, warmup=1, seconds=60.0, of="to spend on rounds")
    add("--chart", type=Path, metavar="FILE.png", help="also draw the result")
    add_output_arguments(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text.split(",")))


def run(args: argparse.Namespace) -> int:
    """Measure; print the table or the JSON, and draw the chart."""
    if args.chart is not None:
        from allfocus.benchmarks.chart import check, draw

        check(args.chart)  # before minutes are spent
    report = measure(
        Plan(
            model=args.model,
            size=args.size,
            backend=args.backend,
            artefact=args.artefact,
            weights=args.weights,
            precision=args.precision,
            baseline=args.baseline,
            classical=args.classical,
            threads=args.threads or 0,
            warmup=args.warmup,
            repeats=args.repeats,
            seconds=args.seconds,
        )
    )
    deliver(report, render(report), args)
    if args.chart is not None:
        draw(report, args.chart)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m allfocus.benchmarks.latency`."""
    return script("allfocus bench latency", __doc__ or "", add_arguments, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
