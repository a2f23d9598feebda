"""Video files through PyAV: timestamps, sound, pixel format and colour tags stay as they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import AllfocusError, BackendError, InputError, UsageError
from allfocus.runtime.files import publish
from allfocus.runtime.spec import YUV, Graph, Size
from allfocus.runtime.streams import semiplanar, yuv
from allfocus.runtime.streams.frames import Damaged, Sink, Source, StreamFrame

log = logging.getLogger("allfocus")

QUALITY = 17  # constant rate factor of x264 and x265: what is lost is not seen
_ENCODERS = {  # of a decoder's name, best first
    "h264": ("libx264", "h264"),
    "hevc": ("libx265", "hevc"),
    "vp8": ("libvpx",),
    "vp9": ("libvpx-vp9",),
    "av1": ("libsvtav1", "libaom-av1"),
}
_FALLBACK = ("libx264", "mpeg4")
_TAGS = ("color_range", "color_primaries", "color_trc", "colorspace")
_EIGHT = 8  # bits a sample: deeper ones are handed on as 16


class VideoSource(Source):
    """The frames of a video file as the graph `taker` takes them; without one, BGR uint8 [H, W, 3].

    In colour they are BGR, uint16 where the graph takes that and, where it takes any, where the
    file has more than 8 bits. Luma and chroma go in as they were decoded.
    Raises InputError where the file is missing, cut off at its head, or holds no pictures, and
    UsageError where its luma and chroma are not the graph's.
    """

    def __init__(self, path: Path, taker: Graph | None = None) -> None:
        self.path = path
        av = _import()
        try:
            self._container = av.open(str(path))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path}: not a video that can be read ({error})") from None
        if not self._container.streams.video:
            self._container.close()
            raise InputError(f"{path}: no pictures in it")
        self.stream = self._container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self._taker = taker
        self._closed = False
        if taker is not None and taker.io in YUV:
            self._check(taker)

    @property
    def total(self) -> int | None:
        """See Source: what the file's head says, or what length and rate make likely."""
        if self.stream.frames:
            return int(self.stream.frames)
        length, rate = self._container.duration, self.stream.average_rate
        return round(length / 1e6 * rate) if length and rate else None

    def frames(self) -> Iterator[StreamFrame | Damaged]:
        """See Source; `origin` is the decoded `av.VideoFrame`."""
        for index, decoded in enumerate(self._decoded()):
            if self._closed:
                return
            if isinstance(decoded, AllfocusError):
                yield Damaged(index, decoded)
            else:
                image = _as_taken(decoded, self._taker)
                time = None if decoded.pts is None else float(decoded.pts * decoded.time_base)
                yield StreamFrame(image, index, perf_counter(), time, decoded)

    def close(self) -> None:
        """End before the next frame."""
        self._closed = True

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

    def _decoded(self) -> Iterator[Any]:
        """Decoded frames; an error in the place of what is damaged."""
        av = _import()
        packets = self._container.demux(self.stream)
        with self._container:
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


@dataclass(frozen=True)
class Encoding:
    """How results are written: `codec` None is the source's own."""

    codec: str | None = None
    quality: int = QUALITY  # constant rate factor, 0 (best) to 51, of codecs that have one


class VideoSink(Sink):
    """A video file like `source`: its size, timestamps, pixel format, tags, sound and subtitles.

    It stands at `path` once it is closed, and plays, also after an early end. `notes` tell what
    could not be kept. Raises UsageError for a container or a codec that cannot be written.
    """

    def __init__(self, path: Path, source: VideoSource, encoding: Encoding = Encoding()) -> None:
        self.path = path
        self.notes: list[str] = []
        self.retimed = 0  # frames whose timestamp was missing or not after the one before
        self._taker = source._taker
        self._given = source.stream  # to open: the reader ends it, maybe before the last frame
        self._base: Fraction = self._given.time_base
        self._rate: Fraction = self._given.average_rate or Fraction(25)
        self._stack = ExitStack()
        self._last: int | None = None
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
        self._mux(self._stream.encode(out))
        self._written += 1
        if self._sound is not None:
            self._sound.up_to(float(out.pts * out.time_base), self._container)

    @property
    def _decoded_samples(self) -> bool:
        """Whether results are luma and chroma."""
        return self._taker is not None and self._taker.io in YUV

    def close(self) -> None:
        """Finish the file; without a single frame there is none. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        av = _import()
        try:
            if self._written:
                self._mux(self._stream.encode())
                if self._sound is not None:
                    self._sound.up_to(self._end(), self._container)
                self._container.close()
                self._stack.close()
            else:
                self._give_up()
        except (av.error.FFmpegError, OSError) as error:
            self._give_up()
            raise AllfocusError(f"cannot finish {self.path}: {error}") from None
        finally:
            if self._sound is not None:
                self._sound.close()

    def _open(self, draft: Path, source: VideoSource, encoding: Encoding) -> None:
        av = _import()
        self._sound: _Sound | None = None
        try:
            self._container = av.open(str(draft), "w")
            self._stream = self._add_stream(encoding)
            self._sound = _Sound(source.path, self._container, self.notes)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise UsageError(
                f"{self.path}: cannot be written as a video ({error}); take .mp4 or .mkv, or "
                "another --codec"
            ) from None
        self._container.metadata.update(source._container.metadata)

    def _add_stream(self, encoding: Encoding) -> Any:
        """The video stream, like the source's."""
        given, codec = self._given, self._encoder(encoding)
        rate = given.average_rate or given.guessed_rate or Fraction(25)
        stream = self._container.add_stream(codec, rate=rate)
        stream.width, stream.height = given.codec_context.width, given.codec_context.height
        stream.pix_fmt = self._pixel_format(codec)
        stream.time_base = stream.codec_context.time_base = given.time_base
        stream.options = {"crf": str(encoding.quality)}
        if given.sample_aspect_ratio:
            stream.codec_context.sample_aspect_ratio = given.sample_aspect_ratio
        for tag in _TAGS:
            setattr(stream.codec_context, tag, getattr(given.codec_context, tag))
        stream.metadata.update(given.metadata)
        return stream

    def _encoder(self, encoding: Encoding) -> str:
        av = _import()
        name = self._given.codec_context.name
        wanted = (encoding.codec,) if encoding.codec else _ENCODERS.get(name, (name,))
        for codec in wanted:
            if _can_encode(av, codec):
                return str(codec)
        if encoding.codec:
            raise UsageError(f"--codec {encoding.codec}: PyAV here has no such encoder")
        found = next(codec for codec in _FALLBACK if _can_encode(av, codec))
        self.notes.append(f"there is no encoder for {name} here: written with {found}")
        return found

    def _pixel_format(self, codec: str) -> str:
        """The source's, where the encoder takes it."""
        given: str = self._given.codec_context.pix_fmt
        able = [each.name for each in _import().Codec(codec, "w").video_formats or ()]
        if not able or given in able:
            return given
        chosen = "yuv420p" if "yuv420p" in able else able[0]
        self.notes.append(f"{codec} does not take pixels as {given}: written as {chosen}")
        return chosen

    def _with_change(self, decoded: Any, before: Array, after: Array) -> Any:
        """The result as the encoder takes it; samples that did not change stay as decoded."""
        if self._taker is not None and self._decoded_samples:
            return semiplanar.given_back(decoded, after, self._taker)
        if decoded.format.name in yuv.FORMATS:
            return yuv.changed(decoded, before, after)
        kind = "bgr24" if after.dtype == np.uint8 else "bgr48le"
        return _import().VideoFrame.from_ndarray(np.ascontiguousarray(after), format=kind)

    def _timestamp(self, decoded: Any) -> int:
        """The frame's own; one frame later than the last where it has none, or jumps back."""
        pts = decoded.pts
        if pts is None or (self._last is not None and pts <= self._last):
            self.retimed += 1
            pts = 0 if self._last is None else self._last + self._duration()
        self._last = int(pts)
        return self._last

    def _duration(self) -> int:
        """Of a frame, in units of the time base."""
        return int(max(1, round(1 / (self._rate * self._base))))

    def _end(self) -> float:
        """Where the last frame ends, in seconds."""
        assert self._last is not None
        return float((self._last + self._duration()) * self._base)

    def _mux(self, packets: Any) -> None:
        av = _import()
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


class _Sound:
    """Copies what is not video from one file to another, in step with the pictures."""

    def __init__(self, path: Path, target: Any, notes: list[str]) -> None:
        self._container = _import().open(str(path))
        self._streams: dict[int, Any] = {}
        for stream in self._container.streams:
            if stream.type not in ("audio", "subtitle"):
                continue
            try:
                self._streams[stream.index] = target.add_stream_from_template(stream)
            except (ValueError, OSError) as error:
                notes.append(f"{stream.type} {stream.index} is left out: {error}")
        given = [s for s in self._container.streams if s.index in self._streams]
        self._packets = self._container.demux(given) if given else iter(())
        self._next: Any = None

    def up_to(self, seconds: float, target: Any) -> None:
        """Copy all packets that begin before `seconds`."""
        while True:
            packet = self._next if self._next is not None else next(self._packets, None)
            self._next = None
            if packet is None:
                return
            if packet.dts is None:  # the end of a stream
                continue
            if float(packet.dts * packet.time_base) >= seconds:
                self._next = packet
                return
            packet.stream = self._streams[packet.stream.index]
            target.mux(packet)

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()


def _import() -> Any:
    try:
        import av
        import av.error
    except ImportError as error:
        raise BackendError(
            f'reading and writing video needs PyAV ({error}): pip install "allfocus[video]"'
        ) from error
    return av


def _can_encode(av: Any, codec: str | None) -> bool:
    try:
        av.Codec(codec, "w")
    except (ValueError, av.error.FFmpegError):
        return False
    return True


def _as_taken(decoded: Any, taker: Graph | None) -> Array:
    io = "frame" if taker is None else taker.io
    if taker is not None and io in YUV:
        return semiplanar.taken(decoded, taker)
    more = max(part.bits for part in decoded.format.components) > _EIGHT
    deep = io == "frame16" or (io == "float" and more)
    return np.asarray(decoded.to_ndarray(format="bgr48le" if deep else "bgr24"))
