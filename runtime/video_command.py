"""`allfocus video`: a video file, or a live camera, in; a sharp video out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED, positive, script
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import UsageError
from allfocus.runtime.model_options import add_model_options, opened
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import YUV
from allfocus.runtime.stopping import Stop
from allfocus.runtime.streams.counters import Snapshot
from allfocus.runtime.streams.endpoint import Endpoint
from allfocus.runtime.streams.ffmpeg import QUALITY, Encoding
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink

_ABOUT = """\
Timestamps, sound, subtitles, pixel format and colour tags stay as they are; what is in focus stays
as it was decoded. A model that `allfocus export --io nv12` made takes samples as they were decoded,
without a way through colour on the host: --io nv12 takes it. Ctrl-C finishes the frame in hand and
the file, which then plays. Needs PyAV: pip install "allfocus[video]".
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus video`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("input", type=Path, metavar="IN", help="a video file")
    add("-o", "--out", type=Path, required=True, help="the video to write, such as sharp.mp4")
    add_model_options(parser, default="didanet-lite", each="a frame")
    add(
        "--io",
        choices=("frame16", *YUV),
        help="take a model that was exported so: nv12 and p010 go in as they were decoded",
    )
    add("--codec", help="an encoder of FFmpeg, such as libx265 (default: the source's)")
    add(
        "--quality",
        type=_quality,
        default=QUALITY,
        help="constant rate factor, 0 to 51 (%(default)s)",
    )
    add("--metrics", type=int, metavar="PORT", help="serve counters for Prometheus while it runs")
    add("--log", type=positive, metavar="SECONDS", help="a line of counters every so often")
    add("--overwrite", action="store_true", help="write over a file that is there")
    add("--json", action="store_true", help="print the counters as one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    """Do the whole video."""
    _check(args.input, args.out, overwrite=args.overwrite)
    with ExitStack() as stack:
        deblur = stack.enter_context(opened(args, args.io))
        source = VideoSource(args.input, deblur.graph)
        sink = VideoSink(args.out, source, Encoding(args.codec, args.quality))
        for note in sink.notes:
            print(f"allfocus: {args.input}: {note}", file=sys.stderr)
        pipeline = Pipeline(source, _shown(deblur, source, stack), sink)
        stack.enter_context(_reported(pipeline, args.metrics, args.log))
        with Stop("frame", pipeline.stop):
            report = pipeline.run()
    _tell(args, report, sink)
    return DONE if report.frames else FAILED


def _shown(deblur: Deblurrer, source: VideoSource, stack: ExitStack) -> Callable[[Any], Result]:
    """`deblur`, which moves a bar on a terminal."""
    bar = stack.enter_context(tqdm(total=source.total, unit="frame", disable=None))

    def shown(image: Any) -> Result:
        result = deblur(image)
        bar.update()
        return result

    return shown


@contextmanager
def _reported(pipeline: Pipeline, port: int | None, seconds: int | None) -> Iterator[None]:
    """Counters on a port and in the log, as long as this lasts."""
    ended = Event()

    def tell() -> None:
        while not ended.wait(seconds):
            tqdm.write(f"allfocus: {pipeline.snapshot().line()}", file=sys.stderr)

    with ExitStack() as stack:
        if port is not None:
            served = stack.enter_context(Endpoint(pipeline.snapshot, port))
            print(f"allfocus: http://127.0.0.1:{served.port}/metrics", file=sys.stderr)
        if seconds:
            teller = Thread(target=tell, name="allfocus-log", daemon=True)
            teller.start()
            stack.callback(teller.join)
        stack.callback(ended.set)
        yield


def _check(given: Path, out: Path, *, overwrite: bool) -> None:
    if out.is_dir():
        raise UsageError(f"{out}: a folder, where the name of a video was expected")
    if out.exists() and given.exists() and out.samefile(given):
        raise UsageError(f"{out}: the input itself; choose another --out")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is there already: choose another --out, or allow --overwrite")


def _tell(args: argparse.Namespace, report: Snapshot, sink: VideoSink) -> None:
    if sink.retimed:
        print(
            f"allfocus: {args.input}: {sink.retimed} frames had no timestamp of their own, or one "
            "before the last: each follows the one before",
            file=sys.stderr,
        )
    if sink.retimed_sound:
        print(
            f"allfocus: {args.input}: sound jumps back in time: what comes after follows what was "
            "before",
            file=sys.stderr,
        )
    if args.json:
        about = {"input": str(args.input), "output": str(args.out), "retimed": sink.retimed}
        print(json.dumps({**about, **asdict(report)}))
    elif report.frames:
        print(f"{args.input} -> {args.out}  {report.line()}")
    else:
        print(f"allfocus: {args.input}: no frames were written", file=sys.stderr)


def _quality(text: str) -> int:
    if not text.isdecimal() or int(text) > 51:
        raise argparse.ArgumentTypeError(f"expected 0 to 51, got {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("video", "Make a video sharp.", add_arguments, run, argv)
