"""`allfocus bench tiles`: do tiles give what the whole frame gives, what do they cost, and what is
saved where a frame is in focus?

Frames are a sharp photo of scikit-image, mirrored to size, with a band of `--blurred` of the height
out of focus: what is passed through is up to the model's map. Contenders take turns on the same
frames; their memory is measured in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks import common
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.memory import peak_rss
from allfocus.benchmarks.schema import Machine, Stats
from allfocus.runtime.child import output_of
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.load import load
from allfocus.runtime.memory import format_bytes, parse_bytes, resident
from allfocus.runtime.skip import OFF
from allfocus.runtime.spec import PRECISIONS, Size, Wanted
from allfocus.train.camera import to_linear, to_srgb
from allfocus.train.evaluation_scenes import load_photo
from allfocus.train.evaluation_set import STEREO
from allfocus.train.psf import Aperture
from allfocus.train.render import convolve

TILES = "allfocus/tiles/2"
AT_ONCE = "1000GiB"  # no frame is cut
_RADIUS = 4.0  # pixels of the band's blur

Frame = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A way to do a frame."""

    name: str
    size: Size
    memory: str
    skip: str
    backend: str
    precision: Wanted

    def open(self, model: str) -> Deblurrer:
        """Load it."""
        return load(
            model,
            backend=self.backend,
            precision=self.precision,
            memory=self.memory,
            skip=self.skip,
            color="rgb",
        )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender against the whole frame at once, of its size."""

    name: str
    size: str
    memory: str  # its budget
    seconds: Stats
    ratio: Stats  # seconds over those of the whole frame at once, of the same round
    nanoseconds_per_pixel: float
    peak_bytes: int | None  # while a frame was done, over what the loaded model holds
    skipped: float  # share of the frame
    largest_difference: int  # levels of 255
    differing: float  # share of samples


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the command measured."""

    schema: str
    machine: Machine
    model: str
    backend: str
    precision: str
    blurred: float  # share of each frame that is out of focus
    rows: tuple[Row, ...]


def frame(size: Size, blurred: float) -> Frame:
    """The photo, with a band across the top out of focus, [H, W, 3] RGB."""
    photo = load_photo(STEREO)
    down, right = (
        max(0, wanted - there)
        for wanted, there in zip((size.height, size.width), photo.shape, strict=False)
    )
    mirrored = cv2.copyMakeBorder(photo, 0, down, 0, right, cv2.BORDER_REFLECT_101)
    sharp = mirrored[: size.height, : size.width]
    band = round(blurred * size.height)
    if band:
        kernel = Aperture(shape="disc").kernel(_RADIUS)
        near = sharp[: band + 32].astype(np.float32) / np.float32(255)  # what blurs into it too
        sharp[:band] = np.rint(to_srgb(convolve(to_linear(near), kernel)[:band]) * 255)
    return np.ascontiguousarray(sharp, np.uint8)


def contenders(
    sizes: Sequence[Size],
    budgets: Sequence[str],
    backend: str = "onnxruntime",
    precision: Wanted = "fp32",
) -> list[Contender]:
    """For each size: the whole at once first, tiles, and without what is in focus."""
    found = []
    for size in sizes:
        make = partial(Contender, size=size, backend=backend, precision=precision)
        found.append(make(name="at once", memory=AT_ONCE, skip=OFF))
        found += [make(name="tiles", memory=budget, skip=OFF) for budget in budgets]
        found.append(make(name="skipping", memory=AT_ONCE, skip="auto"))
    return found


def measure(model: str, blurred: float, field: Sequence[Contender], repeats: int) -> list[Row]:
    """Run all contenders in turn; frames of one size are one frame."""
    with ExitStack() as stack:
        opened = [stack.enter_context(one.open(model)) for one in field]
        frames = {one.size: frame(one.size, blurred) for one in field}
        calls: dict[str, Callable[[], float]] = {
            str(index): partial(_timed, deblur, frames[one.size])
            for index, (one, deblur) in enumerate(zip(field, opened, strict=True))
        }
        times = common.rounds(calls, warmup=1, repeats=repeats, seconds=1.0)
        results = [deblur(frames[one.size]) for one, deblur in zip(field, opened, strict=True)]
    rows = []
    whole = 0
    for index, one in enumerate(field):
        whole = index if one.name == "at once" else whole
        seconds = times[str(index)]
        reference = results[whole].image.astype(int)
        difference = np.abs(results[index].image.astype(int) - reference)
        rows.append(
            Row(
                name=one.name,
                size=str(one.size),
                memory=one.memory,
                seconds=common.stats(seconds),
                ratio=common.stats(
                    [a / b for a, b in zip(seconds, times[str(whole)], strict=True)]
                ),
                nanoseconds_per_pixel=common.stats(seconds).median
                / (one.size.width * one.size.height)
                * 1e9,
                peak_bytes=_peak(model, blurred, one),
                skipped=results[index].skipped,
                largest_difference=int(difference.max()),
                differing=float((difference > 0).mean()),
            )
        )
    return rows


def text(report: Report) -> str:
    """A table for a terminal."""
    head = "way, frame, budget, seconds, of at once, ns/pixel, peak, skipped, differing, most"
    rows = [head.split(", ")]
    for row in report.rows:
        peak = "–" if row.peak_bytes is None else format_bytes(row.peak_bytes)
        budget = "–" if row.memory == AT_ONCE else row.memory
        spread = f"{row.ratio.p05:.2f} to {row.ratio.p95:.2f}"
        rows.append(
            [
                row.name,
                row.size,
                budget,
                f"{row.seconds.median:.2f}",
                f"{row.ratio.median:.2f} ({spread})",
                f"{row.nanoseconds_per_pixel:.0f}",
                peak,
                f"{row.skipped:.0%}",
                f"{row.differing:.2%}",
                str(row.largest_difference),
            ]
        )
    return common.table(rows, left=3)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench tiles`."""
    add = parser.add_argument
    add("--model", default="didanet-lite", help="a name with two phases (default %(default)s)")
    add("--size", type=common.size, nargs="+", default=[Size(1920, 1080)], help="of the frames")
    add("--memory", nargs="*", default=["2GiB", "512MiB"], help="budgets (2GiB and 512MiB)")
    add("--blurred", type=_share, default=0.3, help="share out of focus (default %(default)s)")
    add("--repeats", type=positive, default=3, help="rounds (default %(default)s)")
    add("--backend", default="onnxruntime", help="as in allfocus.load (default %(default)s)")
    add("--precision", choices=PRECISIONS, default="fp32", help="(default %(default)s)")
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    for budget in args.memory:
        parse_bytes(budget)
    machine = describe()
    field = contenders(args.size, args.memory, args.backend, args.precision)
    rows = measure(args.model, args.blurred, field, args.repeats)
    report = Report(
        schema=TILES,
        machine=finish(machine),
        model=args.model,
        backend=args.backend,
        precision=args.precision,
        blurred=args.blurred,
        rows=tuple(rows),
    )
    common.deliver(report, text(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("tiles", "Frames in tiles, and parts in focus.", add_arguments, run, argv)


def child(job: str) -> int:
    """The side of `_peak` that runs: one frame; bytes over what the loaded model holds."""
    model, blurred, given = json.loads(job)
    one = Contender(**{**given, "size": Size(**given["size"])})
    picture = frame(one.size, blurred)
    with one.open(model) as deblur:
        deblur(frame(Size(64, 64), 0.5))
        before = resident()
        deblur(picture)
    print(0 if before is None else max(0, peak_rss() - before))
    return DONE


def _timed(deblur: Deblurrer, picture: Frame) -> float:
    start = perf_counter()
    deblur(picture)
    return perf_counter() - start


def _peak(model: str, blurred: float, one: Contender) -> int | None:
    job = json.dumps([model, blurred, asdict(one)])
    code = "import sys; from allfocus.benchmarks.tiles import child; sys.exit(child(sys.argv[1]))"
    return int(output_of(["-c", code, job], f"measuring the memory of {one.name}")) or None


def _share(value: str) -> float:
    share = common.duration(value)
    if share > 1:
        raise argparse.ArgumentTypeError(f"expected a share of up to 1, got {value!r}")
    return share


if __name__ == "__main__":
    sys.exit(main())
