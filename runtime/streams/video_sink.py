"""Video files written through PyAV: timestamps, sound, pixel format and colour tags stay."""

from __future__ import annotations

import math
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.runtime.files import publish
from allfocus.runtime.spec import YUV
from allfocus.runtime.streams import ffmpeg, semiplanar, yuv
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.frames import Sink, StreamFrame
from allfocus.runtime.streams.sound import Sound
from allfocus.runtime.streams.video import VideoSource

_TAGS = ("color_range", "color_primaries", "color_trc", "colorspace")
_GENEROUS = 1.0  # bits a pixel, for encoders that must be told a rate
_USUAL = Encoding()


class VideoSink(Sink):
    """A video file like `source`: its size, timestamps, pixel format, tags, sound and subtitles.

    It stands at `path` once it is closed, and plays, also after an early end. `notes` tell what
    could not be kept. Raises UsageError for a container or a codec that cannot be written.
    """

    def __init__(self, path: Path, source: VideoSource, encoding: Encoding = _USUAL) -> None:
        self.path = path
        self.notes: list[str] = []
        self.retimed = 0  # frames whose timestamp was missing or not after the one before
        self.retimed_sound = 0  # the same of packets of sound, once it is closed
        self._source = source
        self._taker = source._taker
        self._given = source.stream  # to open: the reader ends it, maybe before the last frame
        self._rate: Fraction = self._given.average_rate or self._given.guessed_rate or Fraction(25)
        self._stack = ExitStack()
        self._last: int | None = None  # when the last frame begins, in units of self._base
        self._length = 0  # of the last frame, in the same; 0: not known
        self._held: Any = None  # the last packet, not yet in the file
        self._seen = 0  # frames of the source, up to the last one that is written
        self._written = 0
        self._closed = False
        draft = self._stack.enter_context(publish(path))
        try:
            self._open(draft, source, encoding)
        except BaseException:
            self._give_up()
            raise

    def write(self, frame: StreamFrame, result: Result) -> None:
        """See Sink; the frame is one of the source's."""
        decoded = frame.origin
        height, width = result.image.shape[:2]
        if self._decoded_samples:
            height = 2 * height // 3
        if (height, width) != (self._stream.height, self._stream.width):
            raise InputError(
                f"frame {frame.index} is {width}x{height}, and {self.path.name} is "
                f"{self._stream.width}x{self._stream.height}: a video has one size; cut it where "
                "the size changes"
            )
        out = self._with_change(decoded, frame.image, result.image)
        out.pts, out.time_base = self._timestamp(decoded), self._base
        self._length = self._ticks(getattr(decoded, "duration", None), decoded.time_base) or 0
        self._encode(out)
        self._written += 1
        self._seen = frame.index + 1
        if self._sound is not None:
            self._sound.up_to(float(out.pts * out.time_base))

    @property
    def _decoded_samples(self) -> bool:
        """Whether results are luma and chroma."""
        return self._taker is not None and self._taker.io in YUV

    def close(self) -> None:
        """Finish the file; without a single frame there is none. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        av = ffmpeg.load()
        try:
            if self._written:
                self._encode(None)
                if self._held is not None:
                    self._held.duration = self._stay() or self._held.duration
                    self._mux(self._held)
                if self._sound is not None:
                    self._sound.up_to(self._end())
                    self.retimed_sound = self._sound.retimed
                self._container.close()
                self._stack.close()
            else:
                self._give_up()
        except (av.error.FFmpegError, OSError) as error:
            self._give_up()
            raise AllfocusError(f"cannot finish {self.path}: {error}") from None
        except AllfocusError:
            self._give_up()
            raise
        finally:
            if self._sound is not None:
                self._sound.close()

    def _open(self, draft: Path, source: VideoSource, encoding: Encoding) -> None:
        av = ffmpeg.load()
        self._sound: Sound | None = None
        try:
            self._container = av.open(str(draft), "w")
            self._stream = self._add_stream(encoding)
            self._turn(source.path)
            self._stream.codec_context.open()
            self._sound = Sound(source.path, self._container, self._mux, self.notes)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise UsageError(
                f"{self.path}: cannot be written as a video ({error}); take .mp4 or .mkv, or "
                "another --codec"
            ) from None
        self._container.metadata.update(source._container.metadata)

    def _add_stream(self, encoding: Encoding) -> Any:
        """The video stream, like the source's."""
        given, notes = self._given, self.notes
        codec = ffmpeg.encoder(given, encoding.codec, notes)
        width, height = given.codec_context.width, given.codec_context.height
        stream = self._container.add_stream(codec, rate=self._rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = ffmpeg.pixel_format(given, codec, notes)
        self._base: Fraction = ffmpeg.time_base(codec, given.time_base, self._rate)
        stream.time_base = stream.codec_context.time_base = self._base
        self._until = self._ticks(_end_of(given), given.time_base)
        bits = max(int(_GENEROUS * width * height * self._rate), given.codec_context.bit_rate or 0)
        stream.options = ffmpeg.options(codec, encoding.quality, bits, notes)
        if given.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = given.sample_aspect_ratio
        for tag in _TAGS:
            setattr(stream.codec_context, tag, getattr(given.codec_context, tag))
        stream.metadata.update(given.metadata)
        return stream

    def _turn(self, path: Path) -> None:
        """Shown turned or mirrored as the source's pictures are, which stay as they lie."""
        matrix = _display_matrix(path)
        if matrix is None:
            return
        if hasattr(self._stream, "set_display_matrix"):
            self._stream.set_display_matrix(matrix)
        else:
            self.notes.append("the pictures are meant to be turned, and this PyAV cannot say so")

    def _with_change(self, decoded: Any, before: Array, after: Array) -> Any:
        """The result as the encoder takes it; samples that did not change stay as decoded."""
        if self._taker is not None and self._decoded_samples:
            return semiplanar.given_back(decoded, after, self._taker)
        if decoded.format.name in yuv.FORMATS:
            return yuv.changed(decoded, before, after)
        kind = "bgr24" if after.dtype == np.uint8 else "bgr48le"
        made = ffmpeg.load().VideoFrame.from_ndarray(np.ascontiguousarray(after), format=kind)
        colours = int(decoded.colorspace), int(decoded.color_range)
        out = made.reformat(
            format=self._stream.pix_fmt, dst_colorspace=colours[0], dst_color_range=colours[1]
        )
        out.colorspace, out.color_range = colours
        return out

    def _timestamp(self, decoded: Any) -> int:
        """The frame's own; one frame later than the last where it has none, or jumps back."""
        pts = self._ticks(decoded.pts, decoded.time_base)
        if pts is None or (self._last is not None and pts <= self._last):
            self.retimed += 1
            pts = 0 if self._last is None else self._last + self._duration()
        self._last = pts
        return pts

    def _ticks(self, count: int | None, base: Fraction | None) -> int | None:
        """A time of the source's in units of the encoder's."""
        return None if count is None or base is None else round(count * base / self._base)

    def _duration(self) -> int:
        """Of a frame, in units of the time base."""
        return max(1, round(1 / (self._rate * self._base)))

    @property
    def _whole(self) -> bool:
        """Whether the last frame there is was written."""
        return self._source.ended is not None and self._seen >= self._source.ended

    def _stay(self) -> int:
        """How long the last picture stays, in units of the time base: what the file says of all
        its pictures, or of that one; 0 where it says nothing."""
        assert self._last is not None
        left = 0 if self._until is None else self._until - self._last
        return left if self._whole and left > 0 else self._length

    def _end(self) -> float:
        """How far sound goes, in seconds: to its own end where all frames were written."""
        if self._whole:
            return math.inf
        assert self._last is not None
        return float((self._last + (self._stay() or self._duration())) * self._base)

    def _encode(self, frame: Any) -> None:
        """Write a frame, or with None what is left; one packet is held back, since the last one
        in the file says how long the last picture stays."""
        av = ffmpeg.load()
        try:
            packets = list(self._stream.encode(frame))
        except av.error.FFmpegError as error:
            raise AllfocusError(f"{self.path.name}: its encoder refuses a frame: {error}") from None
        for packet in packets:
            if self._held is not None:
                self._mux(self._held)
            self._held = packet

    def _mux(self, packets: Any) -> None:
        av = ffmpeg.load()
        try:
            self._container.mux(packets)
        except (av.error.FFmpegError, OSError) as error:
            raise AllfocusError(
                f"cannot write {self.path}: {error}; free some space there, or choose another place"
            ) from None

    def _give_up(self) -> None:
        """Leave nothing behind: what is not finished is not published."""
        error = AllfocusError(f"{self.path}: given up")
        self._stack.__exit__(AllfocusError, error, None)


def _display_matrix(path: Path) -> list[int] | None:
    """How a file's pictures are meant to be turned, as FFmpeg has it; None: not at all."""
    av = ffmpeg.load()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                for data in frame.side_data:
                    if data.type.name == "DISPLAYMATRIX":
                        return [int(n) for n in np.frombuffer(data, "<i4")[:9]]
                return None
    except av.error.FFmpegError:  # whoever reads the frames will tell
        pass
    return None


def _end_of(stream: Any) -> int | None:
    """When a stream ends, in units of its time base; None where the file does not say."""
    return None if stream.duration is None else (stream.start_time or 0) + int(stream.duration)
