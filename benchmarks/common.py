"""What the benchmarks share: statistics, rounds, the papers' figures, and where results go."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import allfocus
from allfocus.benchmarks.schema import Quoted, Stats, encode
from allfocus.runtime.command import positive
from allfocus.runtime.files import publish
from allfocus.runtime.spec import Size

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
PHOTO = Path(allfocus.__file__).parent / "data" / "chelsea.png"  # 451x300, CC0, shallow focus
MIN_ROUNDS, MAX_ROUNDS = 3, 200

_DIDANET = Quoted(
    source="Ma et al., IEEE TIP 2021",
    size="600x400",
    seconds=0.27,
    hardware="GTX 1080 Ti",
    flops=570_000_000_000,
    parameters=19_200_000,
    note=(
        "The paper's 570 GFLOP and 19.2 M parameters do not fit its own text: 12 residual blocks "
        "of 128 features at full resolution are 3.5 M weights that run at each of 240,000 pixels, "
        "850 GMAC in the blocks alone. The public code prints its size in MB (5.2 M float32 "
        "weights are 20 MB), which may be where 19.2 comes from."
    ),
)
QUOTED: dict[str, Quoted] = {"didanet": _DIDANET, "didanet-released": _DIDANET}


def stats(samples: Sequence[float]) -> Stats:
    """Median, 5th and 95th percentile (linear interpolation) and MAD of at least one sample."""
    middle = statistics.median(samples)
    low, high = np.percentile(samples, (5, 95))
    mad = statistics.median(abs(s - middle) for s in samples)
    return Stats(median=middle, p05=float(low), p95=float(high), mad=mad)


def rounds(
    contenders: dict[str, Callable[[], T]],
    *,
    warmup: int,
    repeats: int | None,
    seconds: float,
    tick: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[T]]:
    """Call every contender once a round, in turn (A B A B ...), so that drift hits all alike.

    After `warmup` rounds that are thrown away come `repeats` rounds or, where that is None, as
    many as fit in `seconds` with the warm-up: at least MIN_ROUNDS, at most MAX_ROUNDS. `tick` is
    called after each.
    """
    start = clock()
    samples: dict[str, list[T]] = {name: [] for name in contenders}
    done = 0
    longest = 0.0
    while True:
        counted = done - warmup
        if counted >= 0 and _enough(counted, repeats, seconds - (clock() - start) - longest):
            return samples
        begun = clock()
        for name, call in contenders.items():
            value = call()
            if counted >= 0:
                samples[name].append(value)
        longest = max(longest, clock() - begun)
        done += 1
        tick()


def _enough(counted: int, repeats: int | None, left: float) -> bool:
    if repeats is not None:
        return counted >= repeats
    return counted >= MAX_ROUNDS or (counted >= MIN_ROUNDS and left < 0)


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--out`, alike in all benchmarks."""
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON to FILE")


def add_training_precision(parser: argparse.ArgumentParser) -> None:
    """`--precision` of benchmarks that train."""
    text = "what nets are trained in (%(default)s; a CPU without bf16 is faster in fp32)"
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16", help=text)


def add_round_arguments(
    parser: argparse.ArgumentParser, *, warmup: int, seconds: float, of: str
) -> None:
    """`--warmup`, `--repeats` and `--seconds`, with their defaults; `of`: what the seconds are."""
    add = parser.add_argument
    text = f"rounds that are not counted ({warmup})"
    add("--warmup", type=positive, default=warmup, help=text)
    add("--repeats", type=positive, help="rounds that are (as many as fit in --seconds)")
    text = f"{of}, where --repeats is not given; {MIN_ROUNDS} rounds at least ({seconds:.0f})"
    add("--seconds", type=duration, default=seconds, help=text)


def size(text: str) -> Size:
    """An argparse type: WIDTHxHEIGHT in pixels."""
    try:
        return Size.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def duration(text: str) -> float:
    """An argparse type: a finite number of seconds, more than 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return value


def deliver(report: DataclassInstance, text: str, args: argparse.Namespace) -> None:
    """Print the JSON or the text, and write the JSON to `--out` where it is given."""
    encoded = encode(report)
    if args.out is not None:
        with publish(args.out) as temporary:
            temporary.write_text(encoded, encoding="utf-8")
        print(f"wrote {args.out}", file=sys.stderr)
    print(encoded if args.json else text, end="" if args.json else "\n")


def leave(folder: Path, name: str, body: Mapping[str, Any], text: str) -> None:
    """Write NAME.json and NAME.md into a folder."""
    for suffix, content in (("json", json.dumps(body, indent=1)), ("md", text)):
        with publish(folder / f"{name}.{suffix}") as draft:
            draft.write_text(content + "\n", encoding="utf-8")


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Text columns under the first row's headings; the first `left` columns are left-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
