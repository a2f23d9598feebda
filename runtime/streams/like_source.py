"""Results written as the video file had its frames: pixels, tags, timestamps, turn and sound."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import InputError
from allfocus.runtime.spec import YUV, Size
from allfocus.runtime.streams import ffmpeg, semiplanar, yuv
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.manner import Manner
from allfocus.runtime.streams.video import VideoSource

_TAGS = ("color_range", "color_primaries", "color_trc", "colorspace")
_GENEROUS = 1.0  # bits a pixel, for encoders that must be told a rate
# Codecs whose frames may have a named colour profile. PyAV 18 frees the name twice, which ends the
# process, when it is let go of a frame whose side data were looked at.
_PROFILED = ("png", "apng")
_ONE = 1 << 16  # in FFmpeg's matrices of display, whose last number has other units


class LikeSource(Manner):
    """As `source` has them; `origin` of its frames is the decoded `av.VideoFrame`."""

    def __init__(self, source: VideoSource, encoding: Encoding, notes: list[str]) -> None:
        super().__init__(encoding, notes)
        self._source, self._taker = source, source.taker
        self._given = source.stream  # to open: the reader ends it, maybe before the last frame
        self.rate = self._given.average_rate or self._given.guessed_rate or Fraction(25)
        self.end, self.sound = _end_of(self._given), source.path
        self._pixels = ""  # their format

    @property
    def ended(self) -> int | None:
        """See Manner."""
        return self._source.ended

    def add_stream(self, container: Any) -> Any:
        """See Manner; the encoder is opened, since the size is known."""
        given, encoding, notes = self._given, self._encoding, self._notes
        name, form = given.codec_context.codec.canonical_name, given.codec_context.pix_fmt
        if form is None:
            raise InputError(
                f"{self._source.path}: nothing tells how its pixels are stored; it is damaged, or "
                "cut off before its first picture"
            )
        codec = ffmpeg.encoder(str(name), encoding.codec, notes)
        width, height = given.codec_context.width, given.codec_context.height
        if encoding.codec is None:
            codec = ffmpeg.held(container, codec, notes)
        stream = container.add_stream(codec, rate=self.rate)
        stream.width, stream.height = width, height
        full = given.codec_context.color_range == ffmpeg.FULL
        even = width % 2 == height % 2 == 0
        self._pixels = ffmpeg.pixel_format(str(form), codec, notes, full=full, even=even)
        stream.pix_fmt = self._pixels
        fastest = max(self.rate, given.base_rate or self.rate)
        self.base = ffmpeg.time_base(codec, given.time_base, self.rate, fastest)
        stream.time_base = stream.codec_context.time_base = self.base
        bits = max(int(_GENEROUS * width * height * self.rate), given.codec_context.bit_rate or 0)
        stream.options = ffmpeg.options(codec, encoding.quality, bits, notes)
        if given.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = given.sample_aspect_ratio
        for tag in _TAGS:
            setattr(stream.codec_context, tag, getattr(given.codec_context, tag))
        tagged = stream.codec_context
        tagged.color_range = ffmpeg.range_of(self._pixels, tagged.color_range)
        stream.metadata.update(given.metadata)
        self._turn(stream)
        stream.codec_context.open()
        container.metadata.update(self._source.metadata)
        return stream

    def size(self, image: Array) -> Size:
        """See Manner."""
        height, width = image.shape[:2]
        return Size(width, 2 * height // 3 if self._decoded_samples else height)

    def picture(self, frame: StreamFrame, image: Array) -> Any:
        """See Manner; samples that did not change stay as decoded."""
        decoded = frame.origin
        if self._taker is not None and self._decoded_samples:
            return semiplanar.given_back(decoded, image, self._taker)
        if decoded.format.name in yuv.FORMATS:
            return yuv.changed(decoded, frame.image, image)
        kind = "bgr24" if image.dtype == np.uint8 else "bgr48le"
        made = ffmpeg.load().VideoFrame.from_ndarray(np.ascontiguousarray(image), format=kind)
        colours = int(decoded.colorspace), int(decoded.color_range)
        out = made.reformat(
            format=self._pixels, dst_colorspace=colours[0], dst_color_range=colours[1]
        )
        out.colorspace, out.color_range = colours
        return out

    def span(self, frame: StreamFrame) -> tuple[Fraction | None, Fraction | None]:
        """See Manner."""
        decoded, base = frame.origin, frame.origin.time_base
        return _seconds(decoded.pts, base), _seconds(getattr(decoded, "duration", None), base)

    @property
    def _decoded_samples(self) -> bool:
        """Whether results are luma and chroma."""
        return self._taker is not None and self._taker.io in YUV

    def _turn(self, stream: Any) -> None:
        """Shown turned or mirrored as the source's pictures are, which stay as they lie."""
        matrix = _display_matrix(self._source.path)
        if matrix is None:
            return
        if hasattr(stream, "set_display_matrix"):
            stream.set_display_matrix(matrix)
        else:
            self._notes.append("the pictures are meant to be turned, and this PyAV cannot say so")


def _display_matrix(path: Path) -> list[int] | None:
    """How a file's pictures are meant to be turned, as FFmpeg has it; None: not at all."""
    av = ffmpeg.load()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if container.streams.video[0].codec_context.name in _PROFILED:
                    return _turned(int(getattr(frame, "rotation", 0)))
                return _matrix_of(frame)
    except av.error.FFmpegError:  # whoever reads the frames will tell
        pass
    return None


def _matrix_of(frame: Any) -> list[int] | None:
    try:
        for data in frame.side_data:
            if data.type.name == "DISPLAYMATRIX":
                return [int(n) for n in np.frombuffer(data, "<i4")[:9]]
    except ValueError:  # of a kind that is newer than PyAV, which then gives none at all
        return _turned(int(getattr(frame, "rotation", 0)))
    return None


def _turned(degrees: int) -> list[int] | None:
    """The matrix of a picture that is to be turned left by so much; None: not at all."""
    if degrees % 360 == 0:
        return None
    angle = math.radians(degrees)
    cos, sin = round(_ONE * math.cos(angle)), round(_ONE * math.sin(angle))
    return [cos, -sin, 0, sin, cos, 0, 0, 0, 1 << 30]


def _end_of(stream: Any) -> Fraction | None:
    """When a stream ends, in seconds; None where the file does not say."""
    if stream.duration is None:
        return None
    return _seconds((stream.start_time or 0) + int(stream.duration), stream.time_base)


def _seconds(count: int | None, base: Fraction | None) -> Fraction | None:
    return None if count is None or base is None else count * base
