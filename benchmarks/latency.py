"""`allfocus bench latency`: how long a frame takes, stage by stage, against eager PyTorch.

See benchmarks/README.md for how it is measured and what its figures mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from allfocus.benchmarks.common import (
    QUOTED,
    add_output_arguments,
    add_round_arguments,
    deliver,
    size,
)
from allfocus.benchmarks.latency_text import render
from allfocus.benchmarks.machine import describe, finish, speeds
from allfocus.benchmarks.plan import (
    Field,
    Plan,
    open_classical,
    open_pytorch,
    open_runtimes,
    open_source,
)
from allfocus.benchmarks.rows import Setting, make_rows
from allfocus.benchmarks.schema import LATENCY, DeviceRates, LatencyReport, Quoted
from allfocus.benchmarks.turns import BESIDE, Turns
from allfocus.runtime import skip as skips
from allfocus.runtime.catalogue import BASELINES, MODELS
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.probe import BACKENDS
from allfocus.runtime.spec import Size

_CLASSICAL = f"also time deconvolution under the model's map: {', '.join(BASELINES)}"
NOTES = (
    "frame: the package's photo, resized; within each round the contenders take turns",
    "against eager: time of eager PyTorch on the same device / this one's, round by round",
    "peak: of a process of its own that loads the contender and deblurs one frame",
    "of matrix rate: the net's multiply-adds over infer, against a matrix product of that type; "
    "of copy rate: its layers' inputs, outputs and weights, each once, against copying",
)
_PRE = "pre of a classical baseline: the model's whole call, which gives the map"
_GPU = "GPU ms: kernels and copies of calls under a profiler, which are not among those timed"


def measure(plan: Plan) -> LatencyReport:
    """Open all contenders, let them take turns, and report."""
    machine = describe()
    with ExitStack() as stack:
        source = stack.enter_context(open_source(plan))
        field, skipped = open_runtimes(plan, source, stack)
        first = next(iter(field.values()))
        if plan.baseline == "eager":
            found, why = open_pytorch(plan, list(field.values()), stack)
            field, skipped = field | found, skipped | why
        field |= open_classical(plan, source, stack)
        limits = _limits(plan, field)
        turns = Turns(plan, field)
        skipped |= turns.failed
        before = speeds()
        turns.take()
        after = speeds()
        measured = turns.measured()
    setting = Setting(size=plan.size, beside=turns.beside, rates=limits)
    rows = make_rows(measured, setting)
    on_gpu = any(row.device == "cuda" for row in rows)
    notes = (*NOTES, *([_PRE] if plan.classical else []), *([_GPU] if on_gpu else []))
    return LatencyReport(
        schema=LATENCY,
        machine=finish(machine),
        model=first.spec.name,
        weights=first.spec.weights,
        size=str(plan.size),
        skip=str(plan.skip),
        precision=first.precision,
        threads=plan.cpu_threads,
        warmup=plan.warmup,
        repeats=len(rows[0].samples_ms),
        clocks_before=before,
        clocks_after=after,
        rates=limits,
        rows=rows,
        skipped=skipped,
        paper=_quoted(first.spec.name, plan.size),
        notes=notes,
    )


def _limits(plan: Plan, field: Field) -> DeviceRates:
    """Of the devices and types that contenders use; none where less than a whole frame is done."""
    used = [(c.device, c.precision) for c in field.values() if c.role != "classical"]
    if plan.skip != skips.OFF:
        return DeviceRates(
            matrix=(), copy=(), missing={"all": "with --skip, no net does a whole frame's work"}
        )
    from allfocus.benchmarks import rates  # it needs torch

    return rates.measure(used, plan.cpu_threads)


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
    add("--skip", type=skips.argument, default=skips.OFF, help=f"in the runtime: {skips.HELP}")
    add("--beside", type=size, metavar="WxH", help=f"frames of this size too ({BESIDE} on a GPU)")
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
            skip=args.skip,
            beside=args.beside,
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
