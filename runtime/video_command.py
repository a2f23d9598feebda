"""`allfocus video`: a video file, or a live camera, in; a sharp video out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

from allfocus.runtime.command import DONE, FAILED, INTERRUPTED, positive
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, LimitError, UsageError
from allfocus.runtime.model_options import add_model_options, opened
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import YUV
from allfocus.runtime.stopping import Stop
from allfocus.runtime.streams.counters import Snapshot
from allfocus.runtime.streams.endpoint import Endpoint
from allfocus.runtime.streams.ffmpeg import QUALITY, Encoding
from allfocus.runtime.streams.frames import Source
from allfocus.runtime.streams.named import is_camera, named
from allfocus.runtime.streams.repeats import Repeats
from allfocus.runtime.streams.video_sink import VideoSink
from allfocus.runtime.work import about

_ABOUT = """\
Timestamps, sound, subtitles, pixel format and colour tags stay as they are; what is in focus stays
as it was decoded. A model that `allfocus export --io nv12` made takes samples as they were decoded,
without a way through colour on the host: --io nv12 takes it.
A camera is camera:0, camera:1, an address such as rtsp://HOST/STREAM, or camera: and a GStreamer
pipeline that ends in appsink. It is written as H.264, without sound, with the times of its frames.
Ctrl-C finishes the frame in hand and the file, which then plays; a second one leaves that frame
out. The exit code is 1 where frames were left out that were damaged, or could not be made sharp.
Needs PyAV: pip install "allfocus[video]".
"""


class _OverError(Exception):
    """Ends the run with `error`; after one of our errors a pipeline would try the next frame."""

    def __init__(self, error: LimitError) -> None:
        super().__init__(str(error))
        self.error = error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `allfocus video`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _ABOUT
    add = parser.add_argument
    add("input", metavar="IN", help="a video file, or a camera: camera:0, rtsp://HOST/STREAM")
    add("-o", "--out", type=Path, required=True, help="the video to write, such as sharp.mp4")
    add_model_options(parser, default="didanet-lite", each="a frame")
    add(
        "--io",
        choices=("frame16", *YUV),
        help="take a model that was exported so: nv12 and p010 go in as they were decoded",
    )
    add("--codec", help="an encoder of FFmpeg, such as libx265 (default: the source's; H.264)")
    add(
        "--quality",
        type=_quality,
        default=QUALITY,
        help="constant rate factor, 0 to 51 (%(default)s)",
    )
    gone = "end where a camera gives nothing for so long (%(default)s)"
    add("--patience", type=positive, default=30, metavar="SECONDS", help=gone)
    add("--metrics", type=int, metavar="PORT", help="serve counters for Prometheus while it runs")
    add("--log", type=positive, metavar="SECONDS", help="a line of counters every so often")
    add("--overwrite", action="store_true", help="write over a file that is there")
    add("--json", action="store_true", help="print the counters as one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    """Do the whole video; DONE, or FAILED where frames of it are missing."""
    _check(args.input, args.out, overwrite=args.overwrite)
    with ExitStack() as stack:
        deblur = stack.enter_context(opened(args, args.io))
        source = stack.enter_context(named(args.input, deblur.graph, patience=args.patience))
        encoding = Encoding(args.codec, args.quality)
        sink = stack.enter_context(VideoSink(args.out, source, encoding))
        told = _say_notes(args.input, sink)
        pipeline = Pipeline(source, _shown(deblur, source, stack), sink)
        stack.enter_context(_reported(pipeline, args.metrics, args.log))
        try:
            report = _finished(pipeline)
        except (AllfocusError, KeyboardInterrupt) as error:
            return _ended(error, sink)
    _say_notes(args.input, sink, told)
    _tell(args, report, sink, about(deblur))
    return DONE if report.frames and not report.damaged else FAILED


def _finished(pipeline: Pipeline) -> Snapshot:
    """Run it. Raises the error at which no frame can be done, as one frame's own does not."""
    try:
        with Repeats() as repeats, Stop("frame", pipeline.stop):
            return pipeline.run()
    except _OverError as over:
        raise over.error from None
    finally:
        for message, count in repeats.told:
            _say(f"{count:,} more times: {message}")


def _ended(error: AllfocusError | KeyboardInterrupt, sink: VideoSink) -> int:
    """Say what there is after an early end; an error is raised again."""
    sink.close()
    kept = f"holds the {sink.written:,} frames that were done, and plays"
    outcome = f"{sink.path} {kept if sink.written else 'is not written'}"
    if isinstance(error, AllfocusError):
        _say(outcome)
        raise error
    _say(f"interrupted; {outcome}")
    return INTERRUPTED


def _shown(deblur: Deblurrer, source: Source, stack: ExitStack) -> Callable[[Any], Result]:
    """`deblur`, which moves a bar on a terminal, and ends the run where memory is too small."""
    bar = stack.enter_context(tqdm(total=source.total, unit="frame", disable=None))

    def shown(image: Any) -> Result:
        try:
            result = deblur(image)
        except LimitError as error:
            raise _OverError(error) from error
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


def _check(text: str, out: Path, *, overwrite: bool) -> None:
    if out.is_dir():
        raise UsageError(f"{out}: a folder, where the name of a video was expected")
    given = Path(text)
    if not is_camera(text) and out.exists() and given.exists() and out.samefile(given):
        raise UsageError(f"{out}: the input itself; choose another --out")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is there already: choose another --out, or allow --overwrite")


def _tell(
    args: argparse.Namespace, report: Snapshot, sink: VideoSink, model: dict[str, Any]
) -> None:
    if sink.retimed:
        _say(
            f"{args.input}: {sink.retimed} frames had no timestamp of their own, or none after the "
            "last that the output can tell from it: each follows the one before"
        )
    if sink.retimed_sound:
        _say(f"{args.input}: sound jumps back in time: what comes after follows what was before")
    if report.damaged:
        _say(f"{args.input}: {report.damaged:,} frames were left out")
    if args.json:
        files = {"input": args.input, "output": str(args.out), "retimed": sink.retimed}
        print(json.dumps({**model, **files, **asdict(report)}))
    elif report.frames:
        print(f"{args.input} -> {args.out}  {report.line()}")
    else:
        _say(f"{args.input}: no frames were written")


def _say_notes(given: str, sink: VideoSink, told: int = 0) -> int:
    """Say those that were not `told`; how many there are now."""
    for note in sink.notes[told:]:
        _say(f"{given}: {note}")
    return len(sink.notes)


def _say(message: str) -> None:
    tqdm.write(f"allfocus: {message}", file=sys.stderr)


def _quality(text: str) -> int:
    if not text.isdecimal() or int(text) > 51:
        raise argparse.ArgumentTypeError(f"expected 0 to 51, got {text!r}")
    return int(text)
