"""`allfocus bench throughput`: frames a second where one, two or more calls are at work at once.

One call after the other leaves a GPU idle while frames are copied and converted; with `streams=N`
that of one frame goes on while another is computed. Each contender is a model loaded with so many
streams, called by as many threads, which share a block of frames. Contenders take turns.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from allfocus.benchmarks import common
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.schema import Machine, Stats
from allfocus.benchmarks.turns import photo
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import UsageError
from allfocus.runtime.load import load
from allfocus.runtime.probe import BACKENDS
from allfocus.runtime.spec import Size

THROUGHPUT = "allfocus/throughput/1"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What so many streams reach."""

    streams: int
    frames_per_second: Stats
    against_one: Stats  # that over one stream's, round by round
    latency_ms: Stats  # of single calls, which share the machine


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the command measured."""

    schema: str
    machine: Machine
    model: str
    backend: str
    precision: str
    size: str
    frames: int  # of each block
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class _Block:
    """How long a block took, and each of its calls; seconds."""

    whole: float
    calls: tuple[float, ...]


def measure(
    model: str,
    streams: Sequence[int],
    frame_size: Size,
    frames: int,
    repeats: int,
    backend: str,
    machine: Machine,
) -> Report:
    """Blocks of each, in turn; nothing is passed through as in focus. One stream is always there.

    A block has a whole number of frames for each thread, so that none is idle at its end. Raises
    UsageError for a model that takes other frames than colours of 8 bits.
    """
    counts, frame = sorted({1, *streams}), photo(frame_size)
    with ExitStack() as stack:
        first = stack.enter_context(load(model, backend=backend, skip="off"))
        loaded = {1: first}
        for count in counts[1:]:  # "auto" may find another way for more streams: all go the same
            way = partial(load, backend=first.backend, precision=first.precision, skip="off")
            loaded[count] = stack.enter_context(way(model, streams=count))
        if first.graph.io not in ("frame", "float"):
            raise UsageError(f"{model} takes {first.graph.io}; measure the one for colour frames")
        pools = {count: stack.enter_context(ThreadPoolExecutor(count)) for count in counts}
        frames = math.lcm(*counts) * math.ceil(frames / math.lcm(*counts))  # no thread idles
        blocks = common.rounds(
            {
                str(count): partial(_block, loaded[count], pools[count], frame, frames)
                for count in counts
            },
            warmup=1,
            repeats=repeats,
            seconds=1.0,
        )
        return Report(
            schema=THROUGHPUT,
            machine=finish(machine),
            model=first.spec.name,
            backend=first.backend,
            precision=first.precision,
            size=str(frame_size),
            frames=frames,
            rows=tuple(_row(count, frames, blocks) for count in counts),
        )


def text(report: Report) -> str:
    """For a terminal."""
    rows = [["streams", "frames/s", "p05", "p95", "against 1", "a call, ms", "p95"]]
    for row in report.rows:
        rate, call = row.frames_per_second, row.latency_ms
        figures = (f"{value:.2f}" for value in (rate.median, rate.p05, rate.p95))
        times = (f"{call.median:.1f}", f"{call.p95:.1f}")
        rows.append([str(row.streams), *figures, f"{row.against_one.median:.2f}", *times])
    about = f"{report.model}, {report.backend}, {report.precision}, {report.size}"
    return f"{common.table(rows)}\n\n{about}, {report.frames} frames a block"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench throughput`."""
    add = parser.add_argument
    add("--model", default="didanet-lite", help="a name, or an .onnx or .engine file (%(default)s)")
    add("--backend", default="auto", help=f"auto, onnxruntime, {', '.join(BACKENDS)} (auto)")
    add("--size", type=common.size, default=Size(600, 400), help="of the frames (600x400)")
    add("--streams", type=positive, nargs="+", default=(1, 2, 4), help="how many (1 2 4)")
    add("--frames", type=positive, default=16, help="of each block (default %(default)s)")
    add("--repeats", type=positive, default=5, help="blocks of each (default %(default)s)")
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    report = measure(
        args.model, args.streams, args.size, args.frames, args.repeats, args.backend, describe()
    )
    common.deliver(report, text(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("throughput", "Frames a second by calls at once.", add_arguments, run, argv)


def _block(deblur: Deblurrer, pool: ThreadPoolExecutor, frame: NDArray[Any], frames: int) -> _Block:
    start = perf_counter()
    calls = tuple(pool.map(lambda _: _seconds(deblur, frame), range(frames)))
    return _Block(perf_counter() - start, calls)


def _seconds(deblur: Deblurrer, frame: NDArray[Any]) -> float:
    start = perf_counter()
    deblur(frame)
    return perf_counter() - start


def _row(count: int, frames: int, blocks: dict[str, list[_Block]]) -> Row:
    mine, one = ([block.whole for block in blocks[str(each)]] for each in (count, 1))
    calls = [1e3 * call for block in blocks[str(count)] for call in block.calls]
    return Row(
        streams=count,
        frames_per_second=common.stats([frames / whole for whole in mine]),
        against_one=common.stats([b / a for a, b in zip(mine, one, strict=True)]),
        latency_ms=common.stats(calls),
    )


if __name__ == "__main__":
    sys.exit(main())
