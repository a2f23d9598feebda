"""Videos that go through a pipeline into other ones, and the graphs that take their frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import Graph, Io, Matrix, Range
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.ladder import pass_through
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink


def graph(io: Io, matrix: Matrix = "bt709", limits: Range = "limited") -> Graph:
    return Graph(io=io, precision="fp32", color="bgr", shapes=None, matrix=matrix, range=limits)


def converted(
    given: Path,
    out: Path,
    function: Any = pass_through,
    taker: Graph | None = None,
    **encoding: Any,
) -> VideoSink:
    source = VideoSource(given, taker or graph("float"))
    sink = VideoSink(out, source, Encoding(**encoding))
    Pipeline(source, function, sink).run()
    return sink
