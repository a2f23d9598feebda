"""`allfocus bench kernels`: the CUDA operations against PyTorch and against the machine's limits.

See benchmarks/README.md for how it is measured and what its figures mean. Without a GPU it compares
the reference with its compiled form, on the CPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal, get_args

from tqdm import tqdm

from allfocus.benchmarks.common import (
    add_output_arguments,
    add_round_arguments,
    deliver,
    size,
)
from allfocus.benchmarks.kernel_schema import (
    KERNELS,
    Direction,
    KernelReport,
    KernelRow,
    Kind,
    Op,
)
from allfocus.benchmarks.kernel_table import render
from allfocus.benchmarks.machine import describe, finish
from allfocus.runtime.command import DONE, script
from allfocus.runtime.errors import BackendError
from allfocus.runtime.spec import Size

if TYPE_CHECKING:
    from allfocus.benchmarks.kernel_clock import Clock

OPS: tuple[Op, ...] = get_args(Op)
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
KINDS: tuple[Kind, ...] = get_args(Kind)
NO_GPU = (
    "no GPU was used: the CUDA kernels were not run, and these times of PyTorch on a CPU say "
    "nothing about them; on a GPU machine: allfocus bench kernels --device cuda"
)
NOTES = (
    "limit: the larger of bytes / copy bandwidth (inputs read once, results written once) and "
    "operations / FMA rate, both measured in this run; share: limit / median time",
    "within each round the contenders take turns; every one was right by float64 before",
    "reference computes half types in float32; eager is sft_modulate as one writes it in PyTorch",
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure and for how long."""

    size: Size
    ops: tuple[Op, ...] = OPS
    directions: tuple[Direction, ...] = DIRECTIONS
    precisions: tuple[Kind, ...] = ("fp32", "fp16")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = True
    warmup: int = 2
    repeats: int | None = None  # None: as many as fit in `seconds`
    seconds: float = 20.0  # for each operation, direction and precision


def measure(plan: Plan) -> KernelReport:
    """Check and time each case; raises BackendError where a GPU lacks the kernel library."""
    import torch

    from allfocus.benchmarks.kernel_cases import make_case
    from allfocus.benchmarks.kernel_clock import measure_rates
    from allfocus.benchmarks.kernel_rows import make_rows

    machine = describe()
    clock = _clock(plan, machine.cpu)
    rates = measure_rates(clock)
    skipped = {} if clock.kind == "cuda" else {"kernel": "no GPU"}
    cases = list(product(plan.ops, plan.directions, plan.precisions))
    rows: list[KernelRow] = []
    for op, direction, precision in tqdm(cases, desc="cases", disable=None):
        case = make_case(op, direction, precision, plan.size, clock.device)
        made, left_out = make_rows(
            case,
            clock,
            rates,
            compiled=plan.compile,
            warmup=plan.warmup,
            repeats=plan.repeats,
            seconds=plan.seconds,
        )
        rows += made
        skipped |= left_out
    return KernelReport(
        schema=KERNELS,
        machine=finish(machine),
        device=clock.kind,
        device_name=clock.name,
        size=str(plan.size),
        threads=torch.get_num_threads(),
        warmup=plan.warmup,
        rates=rates,
        rows=tuple(rows),
        skipped=skipped,
        notes=NOTES if clock.kind == "cuda" else (NO_GPU, *NOTES),
    )


def _clock(plan: Plan, cpu: str) -> Clock:
    import torch

    from allfocus.benchmarks.kernel_clock import CpuClock, GpuClock
    from allfocus.kernels.library import load

    usable = torch.cuda.is_available()
    if plan.device == "cpu" or (plan.device == "auto" and not usable):
        return CpuClock(cpu)
    if not usable:
        raise BackendError(
            f"PyTorch {torch.__version__} sees no GPU here: see `allfocus doctor`, install a CUDA "
            "build of PyTorch, or measure with --device cpu"
        )
    load()  # where the kernels are not built, say so before minutes are spent
    return GpuClock(torch.device("cuda", torch.cuda.current_device()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench kernels`."""
    add = parser.add_argument
    add("--size", type=size, default=Size(600, 400), metavar="WxH", help="of the tensors (600x400)")
    add("--op", choices=OPS, nargs="+", default=OPS, help="which operations (both)")
    add("--direction", choices=DIRECTIONS, nargs="+", default=DIRECTIONS, help="which (both)")
    add("--precision", choices=KINDS, nargs="+", default=("fp32", "fp16"), help="(fp32 fp16)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU, if any")
    add("--no-compile", action="store_true", help="leave out torch.compile, which takes minutes")
    add_round_arguments(parser, warmup=2, seconds=20.0, of="for each case")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure; print the table or the JSON."""
    report = measure(
        Plan(
            size=args.size,
            ops=tuple(args.op),
            directions=tuple(args.direction),
            precisions=tuple(args.precision),
            device=args.device,
            compile=not args.no_compile,
            warmup=args.warmup,
            repeats=args.repeats,
            seconds=args.seconds,
        )
    )
    deliver(report, render(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m allfocus.benchmarks.kernel_speed`."""
    return script("allfocus bench kernels", __doc__ or "", add_arguments, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
