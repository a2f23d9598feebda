"""`allfocus bench stream`: how much of bare inference's rate is left when a video is read,
deblurred and written at once.

The clip is made for it: the evaluation set's stereo photo, moving. Bare inference has the same
frames in memory already. Both take turns in blocks, so that other work hits both alike.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks import common
from allfocus.benchmarks.candidates import reproducible
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.schema import Machine, Stats
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import BackendError, UsageError
from allfocus.runtime.load import load
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import Size
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink
from allfocus.train.evaluation_scenes import load_photo
from allfocus.train.evaluation_set import STEREO

STREAM = "allfocus/stream/1"
_RATE = 25  # frames a second, of the clip
_STEP = 2  # pixels that it moves a frame


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the command measured; rates in frames a second."""

    schema: str
    machine: Machine
    model: str
    size: str
    frames: int  # of each block
    bare: Stats
    pipeline: Stats
    share: Stats  # the pipeline's rate over the bare one's, of the same block
    around: float  # share of a call's time that is not inference: checks, padding, conversion


def clip(path: Path, size: Size, frames: int) -> Path:
    """A video of `frames` frames, H.264; raises BackendError without PyAV."""
    try:
        import av
    except ImportError as error:
        raise BackendError(f'it takes PyAV ({error}): pip install "allfocus[video]"') from error
    photo = load_photo(STEREO)
    if photo.shape[0] < size.height or photo.shape[1] <= size.width:
        height, width = photo.shape[:2]
        raise UsageError(f"--size {size}: the photo has {width}x{height}; take less")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=_RATE)
        stream.width, stream.height, stream.pix_fmt = size.width, size.height, "yuv420p"
        for index in range(frames):
            left = _STEP * index % (photo.shape[1] - size.width)
            part = np.ascontiguousarray(photo[: size.height, left : left + size.width])
            frame = av.VideoFrame.from_ndarray(part, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, _RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def measure(model: str, size: Size, frames: int, repeats: int, machine: Machine) -> Report:
    """Blocks of both, in turn."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        given = clip(folder / "clip.mp4", size, frames)
        pictures = [frame.image for frame in VideoSource(given).frames()]  # type: ignore[union-attr]
        backend, precision = reproducible(model, "auto", None)  # as the results it may be held to
        deblur = stack.enter_context(load(model, backend=backend, precision=precision, skip="off"))
        shares: list[float] = []
        times = common.rounds(
            {
                "bare": lambda: _bare(deblur, pictures, shares),
                "pipeline": lambda: _through(deblur, given, folder / "out.mp4"),
            },
            warmup=1,
            repeats=repeats,
            seconds=1.0,
        )
    bare, pipeline = ([frames / s for s in times[name]] for name in ("bare", "pipeline"))
    return Report(
        schema=STREAM,
        machine=finish(machine),
        model=model,
        size=str(size),
        frames=frames,
        bare=common.stats(bare),
        pipeline=common.stats(pipeline),
        share=common.stats([p / b for p, b in zip(pipeline, bare, strict=True)]),
        around=common.stats(shares).median,
    )


def text(report: Report) -> str:
    """For a terminal."""
    rows = [["", "frames/s", "p05", "p95"]]
    for name in ("bare", "pipeline"):
        stats: Stats = getattr(report, name)
        rows.append([name, f"{stats.median:.2f}", f"{stats.p05:.2f}", f"{stats.p95:.2f}"])
    share = report.share
    return (
        f"{common.table(rows)}\n\n{report.model} at {report.size}, {report.frames} frames a block: "
        f"{share.median:.1%} of the bare rate ({share.p05:.1%} to {share.p95:.1%}); "
        f"{report.around:.2%} of a call is not inference"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench stream`."""
    add = parser.add_argument
    add("--model", default="didanet-lite", help="a name (default %(default)s)")
    add("--size", type=common.size, default=Size(320, 240), help="of the clip (320x240)")
    add("--frames", type=positive, default=100, help="of each block (default %(default)s)")
    add("--repeats", type=positive, default=3, help="blocks of each (default %(default)s)")
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    report = measure(args.model, args.size, args.frames, args.repeats, describe())
    common.deliver(report, text(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("stream", "A video's rate against bare inference's.", add_arguments, run, argv)


def _bare(deblur: Deblurrer, pictures: Sequence[NDArray[Any]], shares: list[float]) -> float:
    start = perf_counter()
    for picture in pictures:
        timings = deblur(picture).timings
        shares.append(1 - timings["infer"] / sum(timings.values()))
    return perf_counter() - start


def _through(deblur: Deblurrer, given: Path, out: Path) -> float:
    start = perf_counter()
    source = VideoSource(given)
    Pipeline(source, deblur, VideoSink(out, source)).run()
    return perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
