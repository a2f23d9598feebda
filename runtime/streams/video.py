"""Video files through PyAV: their frames, for the graph that takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.runtime.spec import YUV, Graph, Size
from allfocus.runtime.streams import ffmpeg, semiplanar
from allfocus.runtime.streams.frames import Damaged, Source, StreamFrame, check_bgr

_EIGHT = 8  # bits a sample: deeper ones are handed on as 16


class VideoSource(Source):
    """The frames of a video file as the graph `taker` takes them; without one, BGR uint8 [H, W, 3].

    In colour they are BGR, uint16 where the graph takes that and, where it takes any, where the
    file has more than 8 bits. Luma and chroma go in as they were decoded.
    Raises InputError where the file is missing, cut off at its head, or holds no pictures, and
    UsageError where its luma and chroma are not the graph's.
    """

    def __init__(self, path: str | os.PathLike[str], taker: Graph | None = None) -> None:
        self.path = path = Path(path)
        av = ffmpeg.load()
        try:
            self._container = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path}: not a video that can be read ({error})") from None
        if self._container.format.name == "tty":  # a text file, which FFmpeg draws as a terminal
            self._container.close()
            raise InputError(f"{path}: a text file, not a video")
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{path}: no pictures in it")
        self.stream = self._container.streams.video[0]
        self.metadata = dict(self._container.metadata)
        self.stream.thread_type = "AUTO"
        self.ended: int | None = None  # how many frames there were, once the last one is read
        self.taker = taker
        self._total = self._expected()
        self._lock = Lock()
        self._taken = self._closed = False  # by a reader, who closes the file at the end
        if taker is not None and taker.io in YUV:
            self._check(taker)

    @property
    def total(self) -> int | None:
        """See Source: what the file's head says, or what length and rate make likely."""
        return self._total

    def check(self, deblurrer: Deblurrer) -> None:
        """See Source."""
        taker, graph = self.taker, deblurrer.graph
        if taker is None or taker.io not in YUV:
            if graph.io in YUV:
                raise UsageError(
                    f"{self.path}: its frames are decoded to BGR, and the model takes {graph.io}: "
                    "open it as VideoSource(path, deblur.graph)"
                )
            self._check_depth(graph)
            check_bgr(deblurrer, self.path)
        elif _samples(taker) != _samples(graph):
            raise UsageError(
                f"{self.path}: its frames are handed over as {' '.join(_samples(taker))}, and the "
                f"model takes {' '.join(_samples(graph))}: all models of a pipeline, those of its "
                "ladder too, have to take the same"
            )

    def frames(self) -> Iterator[StreamFrame | Damaged]:
        """See Source; `origin` is the decoded `av.VideoFrame`."""
        index = -1
        for index, decoded in enumerate(self._decoded()):
            if self._closed:
                return
            if isinstance(decoded, AllfocusError):
                yield Damaged(index, decoded)
            else:
                image = _as_taken(decoded, self.taker)
                time = None if decoded.pts is None else float(decoded.pts * decoded.time_base)
                yield StreamFrame(image, index, perf_counter(), time, decoded)
        self.ended = None if self._closed else index + 1

    def close(self) -> None:
        """End before the next frame; whoever reads them closes the file, since only he knows when
        nothing is being decoded."""
        with self._lock:
            self._closed = True
            if not self._taken:
                self._container.close()

    def _expected(self) -> int | None:
        if self.stream.frames:
            return int(self.stream.frames)
        length, rate = self._container.duration, self.stream.average_rate
        return round(length / 1e6 * rate) if length and rate else None

    def _check(self, taker: Graph) -> None:
        """Of luma and chroma; leaves nothing open where they do not fit."""
        codec = self.stream.codec_context
        form, size = str(codec.pix_fmt), Size(codec.width, codec.height)
        colours = int(codec.colorspace), 2 if form.startswith("yuvj") else int(codec.color_range)
        try:
            semiplanar.check(self.path.name, form, size, colours, taker)
        except UsageError:
            self._container.close()
            raise

    def _check_depth(self, graph: Graph) -> None:
        """Of colour frames."""
        form = self.stream.codec_context.pix_fmt
        deep = form is not None and _deep(ffmpeg.load().VideoFormat(form), self.taker)
        if graph.io == ("frame" if deep else "frame16"):
            raise UsageError(
                f"{self.path}: its frames are handed over in {16 if deep else 8} bits, and the "
                f"model takes {graph.io}: open it as VideoSource(path, deblur.graph); all models "
                "of a pipeline, those of its ladder too, have to take the same"
            )

    def _decoded(self) -> Iterator[Any]:
        """Decoded frames; an error in the place of what is damaged."""
        av = ffmpeg.load()
        with self._lock:
            if self._closed:
                return
            self._taken = True
        with self._container:
            packets = self._container.demux(self.stream)
            while not self._closed:
                try:
                    packet = next(packets)
                    yield from packet.decode()
                except StopIteration:
                    return
                except av.error.EOFError:
                    return
                except av.error.FFmpegError as error:
                    yield InputError(f"{self.path}: a damaged frame ({error})")


def _samples(graph: Graph) -> tuple[str, ...]:
    """What the samples of its frames mean, in words."""
    return (graph.io, graph.matrix, graph.range) if graph.io in YUV else (graph.io,)


def _as_taken(decoded: Any, taker: Graph | None) -> Array:
    if taker is not None and taker.io in YUV:
        return semiplanar.taken(decoded, taker)
    deep = _deep(decoded.format, taker)
    return np.asarray(decoded.to_ndarray(format="bgr48le" if deep else "bgr24"))


def _deep(form: Any, taker: Graph | None) -> bool:
    """Whether colour frames that were decoded as the pixel format `form` become uint16."""
    io = "frame" if taker is None else taker.io
    more = max(part.bits for part in form.components) > _EIGHT
    return io == "frame16" or (io == "float" and more)
