"""`allfocus bench ratios`: in under a minute, what must not grow: for `bench compare`, in CI.

No figure here is a time. Contenders take turns, and each is held against another of the same block,
on the same CPU and in the same engine, so that machine and load fall out. What is counted, calls
and memory of Python's, is the same in every run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Literal

from allfocus.benchmarks import common
from allfocus.benchmarks.calls import Frame
from allfocus.benchmarks.counting import python_calls, python_memory
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.ort_sessions import bare, convolutions
from allfocus.benchmarks.schema import Machine, Stats
from allfocus.benchmarks.turns import photo
from allfocus.runtime.abilities import lacks
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import ArtefactError, BackendError, LimitError, UsageError
from allfocus.runtime.load import load
from allfocus.runtime.spec import Size

RATIOS: Literal["allfocus/ratios/1"] = "allfocus/ratios/1"
CALL = "a call / its graph in ONNX Runtime alone"
GRAPH = "the graph / convolutions of as many operations"
EIGHT = "a call in int8 / the fp32 graph alone"
_IN_TILES = Size(480, 160)
_BUDGETS = ("8MiB", "12MiB", "16MiB", "24MiB", "32MiB", "48MiB", "64MiB")  # the first that suffices
_SIZE = Size(160, 112)
_TURNS = 5  # of a block


@dataclass(frozen=True, kw_only=True)
class Row:
    """A ratio of times within a block of rounds: less is better."""

    name: str
    ratio: Stats
    samples: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the command measured and counted."""

    schema: Literal["allfocus/ratios/1"]
    machine: Machine
    model: str
    size: str
    threads: int
    warmup: int  # blocks not counted
    rows: tuple[Row, ...]
    counts: dict[str, float]
    skipped: dict[str, str]  # row -> why it was not measured


def measure(model: str, size: Size, threads: int, repeats: int | None, seconds: float) -> Report:
    """Time and count; raises what loading raises."""
    machine = describe()
    path = packaged_onnx(model)
    if not path.is_file():
        raise UsageError(f"--model {model}: expected one that the package carries as an ONNX file")
    frame = photo(size)
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        call = stack.enter_context(
            load(model, backend="cpu", precision="fp32", threads=threads, skip="off")
        )
        spec = call.spec
        macs = spec.macs_per_pixel * size.width * size.height
        plain = convolutions(macs, threads)
        ways: dict[str, Callable[[], object]] = {
            CALL: partial(call, frame),
            "bare": bare(path, call.graph, size.padded(spec.multiple), threads),
            "convolutions": plain.run,
        }
        eight = _eight_bits(model, threads, stack, skipped)
        if eight is not None:
            ways[EIGHT] = partial(eight, frame)
        blocks = common.rounds(
            {"": partial(_block, ways)}, warmup=1, repeats=repeats, seconds=seconds
        )[""]
        counted = counts(model, call, size, threads)
    times = {name: [block[name] for block in blocks] for name in ways}
    own = [taken * macs / plain.macs for taken in times["convolutions"]]
    rows = [_row(CALL, times[CALL], times["bare"]), _row(GRAPH, times["bare"], own)]
    if EIGHT in times:
        rows.append(_row(EIGHT, times[EIGHT], times["bare"]))
    return Report(
        schema=RATIOS,
        machine=finish(machine),
        model=model,
        size=str(size),
        threads=threads,
        warmup=1,
        rows=tuple(rows),
        counts=counted,
        skipped=skipped,
    )


def counts(model: str, call: Deblurrer, size: Size, threads: int) -> dict[str, float]:
    """Calls and memory of Python's in a frame, at once and in tiles."""
    frame, larger = photo(size), photo(_IN_TILES)
    once = partial(call, frame)
    once()
    with _in_tiles(model, larger, threads) as tiled:
        return {
            "Python's calls in a frame": python_calls(once),
            f"Python's calls in tiles of {_IN_TILES}": python_calls(partial(tiled, larger)),
            "Python's memory at most, in frames": python_memory(once) / frame.nbytes,
        }


def _eight_bits(
    model: str, threads: int, stack: ExitStack, skipped: dict[str, str]
) -> Deblurrer | None:
    """The model in int8; where there is no file, or no use, why goes to `skipped`."""
    if lacks("int8"):
        skipped[EIGHT] = "this CPU has no VNNI: its int8 is no measure of that of others"
        return None
    try:
        return stack.enter_context(
            load(model, backend="cpu", precision="int8", threads=threads, skip="off")
        )
    except (ArtefactError, BackendError) as error:
        skipped[EIGHT] = str(error)
        return None


def _in_tiles(model: str, frame: Frame, threads: int) -> Deblurrer:
    """The model with so little memory that it does `frame` in tiles, after one."""
    for budget in _BUDGETS:
        tiled = load(
            model, backend="cpu", precision="fp32", threads=threads, skip="off", memory=budget
        )
        try:
            tiled(frame)
        except LimitError:
            tiled.close()
        else:
            return tiled
    raise UsageError(f"--model {model}: expected one that does {_IN_TILES} in {_BUDGETS[-1]}")


def _block(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The quickest of some calls of each, which take turns: what disturbs one call, such as other
    work of the machine, seldom disturbs all.
    """
    turns = [{name: _timed(way) for name, way in ways.items()} for _ in range(_TURNS)]
    return {name: min(turn[name] for turn in turns) for name in ways}


def _timed(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _row(name: str, times: Sequence[float], others: Sequence[float]) -> Row:
    ratios = [one / other for one, other in zip(times, others, strict=True)]
    return Row(name=name, ratio=common.stats(ratios), samples=tuple(ratios))


def text(report: Report) -> str:
    """For a terminal."""
    rows = [["ratio", "median", "p05", "p95"]]
    for row in report.rows:
        ratio = row.ratio
        rows.append([row.name, *(f"{v:.3f}" for v in (ratio.median, ratio.p05, ratio.p95))])
    found = [["count", ""], *([name, f"{v:,.4g}"] for name, v in report.counts.items())]
    count = len(report.rows[0].samples)
    rounds = f"{count} blocks of {_TURNS} rounds"
    about = f"{report.model} at {report.size}, {rounds}, {report.threads} threads"
    missing = [f"not measured: {name}: {why}" for name, why in report.skipped.items()]
    return "\n\n".join([common.table(rows), common.table(found), "\n".join([about, *missing])])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench ratios`."""
    add = parser.add_argument
    add("--model", choices=tuple(MODELS), default="didanet-lite", metavar="NAME", help="packaged")
    add("--size", type=common.size, default=_SIZE, metavar="WxH", help=f"of the frame ({_SIZE})")
    add("--threads", type=positive, help="CPU threads (all there are)")
    add("--repeats", type=positive, help="blocks (as many as fit in --seconds)")
    add("--seconds", type=common.duration, default=15.0, help="to spend on them (15)")
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    threads = args.threads or available_cpus()
    report = measure(args.model, args.size, threads, args.repeats, args.seconds)
    common.deliver(report, text(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m allfocus.benchmarks.ratios`."""
    return script("allfocus bench ratios", __doc__ or "", add_arguments, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
