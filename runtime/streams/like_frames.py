"""Results of frames that come from no video file, written as players like them: H.264, yuv420p."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.real import above_zero
from allfocus.runtime.spec import Size
from allfocus.runtime.streams import ffmpeg
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.manner import Manner

_CODEC, _PIXELS, _WHOLE_CHROMA = "h264", "yuv420p", "yuv444p"
_BT709 = 1  # as FFmpeg numbers matrices, and primaries and curve too
_ABOUT = Fraction(30)  # frames a second, for encoders, where nobody says
_GENEROUS = 1.0  # bits a pixel, for encoders that must be told a rate


class LikeFrames(Manner):
    """Timestamps are the frames' own, so that the rate may change; with `rate`, in frames a second,
    they follow from the frames' numbers, where what was dropped leaves gaps.

    `live` frames that do not know their time have that of their arrival.
    """

    def __init__(
        self, encoding: Encoding, notes: list[str], *, rate: float | Fraction | None, live: bool
    ) -> None:
        super().__init__(encoding, notes)
        self._fixed = None if rate is None else _checked(rate)
        self.rate = self._fixed or _ABOUT
        self._live = live
        self._begun: Fraction | None = None  # when the first frame was taken, in seconds

    def add_stream(self, container: Any) -> Any:
        """See Manner."""
        self._codec = ffmpeg.encoder(_CODEC, self._encoding.codec, self._notes)
        self.base = ffmpeg.time_base(self._codec, ffmpeg.TICK, self.rate, self.rate)
        return container.add_stream(self._codec, rate=self.rate)

    def prepare(self, stream: Any, size: Size) -> None:
        """See Manner."""
        stream.width, stream.height = size.width, size.height
        odd = size.width % 2 or size.height % 2
        self._pixels = ffmpeg.pixel_format(
            _WHOLE_CHROMA if odd else _PIXELS, self._codec, self._notes
        )
        stream.pix_fmt = self._pixels
        context = stream.codec_context
        stream.time_base = context.time_base = self.base
        bits = int(_GENEROUS * size.width * size.height * self.rate)
        stream.options = ffmpeg.options(self._codec, self._encoding.quality, bits, self._notes)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        self._range = ffmpeg.range_of(self._pixels, ffmpeg.LIMITED)
        context.color_range = self._range
        context.open()

    def size(self, image: Array) -> Size:
        """See Manner."""
        if not isinstance(image, np.ndarray):
            raise InputError(
                f"expected results in host memory, got {type(image).__name__}: a video is encoded "
                "there; give frames from there"
            )
        height, width = image.shape[:2]
        return Size(width, height)

    def picture(self, frame: StreamFrame, image: Array) -> Any:
        """See Manner."""
        colours = _colours(frame.index, image)
        kind = "bgr24" if colours.dtype == np.uint8 else "bgr48le"
        made = ffmpeg.load().VideoFrame.from_ndarray(np.ascontiguousarray(colours), format=kind)
        out = made.reformat(format=self._pixels, dst_colorspace=_BT709, dst_color_range=self._range)
        out.colorspace, out.color_range = _BT709, self._range
        return out

    def span(self, frame: StreamFrame) -> tuple[Fraction, Fraction]:
        """See Manner; it counts from the first frame that is written, and a frame stays as long as
        the one before did."""
        now = self._time(frame)
        if self._begun is None:
            self._begun = self._before = now
        step, self._before = now - self._before, now
        return now - self._begun, step

    def _time(self, frame: StreamFrame) -> Fraction:
        if self._fixed is not None:
            return frame.index / self._fixed
        if frame.time is not None:
            return Fraction(frame.time)
        if self._live:
            return Fraction(frame.arrived)
        raise UsageError(
            f"frame {frame.index} does not say when it is shown: give VideoSink rate=, in frames a "
            "second"
        )


def _checked(rate: float | Fraction) -> Fraction:
    number = above_zero(rate)
    exact = None if number is None else Fraction(number)
    found = exact and exact.limit_denominator(1001)  # 29.97 is 30000/1001
    if not found:
        raise UsageError(f"rate: expected frames a second, above 0.001, got {rate!r}")
    return found


def _colours(index: int, image: Array) -> Array:
    """A result as BGR [H, W, 3], uint8 or uint16."""
    if image.dtype.kind == "f":
        image = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, 2)
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3 or image.shape[2] not in (3, 4):
        raise InputError(
            f"frame {index}: expected a result in grey or BGR of uint8, uint16 or float32, got "
            f"{image.dtype} {list(image.shape)}"
        )
    return image[..., :3]
