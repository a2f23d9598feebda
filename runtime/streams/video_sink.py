"""Video files written through PyAV, which play also after an early end."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, InputError, UsageError
from allfocus.runtime.spec import Size
from allfocus.runtime.streams import holds
from allfocus.runtime.streams.draft import Draft
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.frames import Sink, Source, StreamFrame, check_bgr
from allfocus.runtime.streams.like_frames import LikeFrames
from allfocus.runtime.streams.like_source import LikeSource
from allfocus.runtime.streams.manner import Manner
from allfocus.runtime.streams.pace import Pace
from allfocus.runtime.streams.sound import Sound, copied
from allfocus.runtime.streams.video import VideoSource

_USUAL = Encoding()


class VideoSink(Sink):
    """A video file of what `source` gives.

    Like a VideoSource's file: its size, timestamps, pixel format, tags, sound and subtitles. Of any
    other source: H.264 where PyAV has it, yuv420p, of the first result's size, without sound; with
    the frames' own times, such as a Camera's, or `rate` frames a second. Results are grey or BGR
    then: those of nv12 and p010 belong to a VideoSource with that `io`.

    It stands at `path` once it is closed, and plays, also after an early end. `notes` tell what
    could not be kept. Raises UsageError for a container or a codec that cannot be written. May be
    closed by any thread: a frame that is just being written is finished.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: Source,
        encoding: Encoding = _USUAL,
        *,
        rate: float | Fraction | None = None,
    ) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        self.written = 0  # frames; 0 where there is no file in the end
        self.retimed = 0  # frames without a timestamp that is, in the file's ticks, after the last
        self.retimed_sound = 0  # the same of packets of sound, once it is closed
        self._manner = _manner(source, encoding, rate, self.notes)
        self._size: Size | None = None  # once there was a frame
        self._last: int | None = None  # when the last frame begins, in ticks of the time base
        self._pace = Pace()
        self._length = 0  # of the last frame, in the same; 0: not known
        self._seen = 0  # frames of the source, up to the last one that is written
        self._lock = Lock()
        self._closing = self._closed = False
        self._finished = Event()
        self._error: BaseException | None = None  # of finishing
        self._sound: Sound | None = None
        self._draft = Draft(self.path)
        try:
            with self._draft.opening():
                self._stream = self._manner.add_stream(self._draft.container)
                if (file := self._manner.sound) is not None:
                    self._sound = self._beside(file)
        except BaseException:
            self._draft.give_up()
            raise

    def check(self, deblurrer: Deblurrer) -> None:
        """See Sink; what a VideoSource's frames are, it checks itself."""
        if isinstance(self._manner, LikeFrames):
            check_bgr(deblurrer, self.path)

    def write(self, frame: StreamFrame, result: Result) -> None:
        """See Sink; the frame is one of the source's."""
        with self._lock:
            if self._closed:
                raise AllfocusError(f"{self.path} is finished: it takes no more frames")
            self._check_size(frame.index, self._manner.size(result.image))
            out = self._manner.picture(frame, result.image)
            out.pts, out.time_base = self._timestamp(frame), self._manner.base
            self._draft.encode(self._stream, out)
            self.written += 1
            self._seen = frame.index + 1
            if self._sound is not None:
                self._sound.up_to(float(out.pts * out.time_base))

    def close(self) -> None:
        """Finish the file; without a single frame there is none. A second call does nothing."""
        if not self._closing:
            Thread(target=self._close, name="allfocus-finish").start()
            self._closing = True
        self._finished.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _beside(self, file: Path) -> Sound:
        """The sound of `file`, of which the container takes what it can."""

        def takes(streams: list[Any]) -> bool:
            try:
                self._attempt(streams)
            except ValueError:
                if not streams:  # the pictures themselves
                    raise
                return False
            return True

        draft = self._draft
        return Sound(file, draft.container, draft.mux, takes, self.notes)

    def _attempt(self, streams: list[Any], size: Size | None = None) -> None:
        """Raise ValueError where the container does not take the pictures beside `streams`; their
        `size` where their encoder waits for it."""
        told = len(self.notes)

        def add(container: Any) -> None:
            pictures = self._manner.add_stream(container)
            if size is not None:
                self._manner.prepare(pictures, size)
            copied(container, streams)

        try:
            holds.attempt(self._draft.container.format, add)
        finally:
            del self.notes[told:]  # the real one tells them

    def _close(self) -> None:
        """In a thread of its own, so that a Ctrl-C, which ends the main one, leaves no half file:
        what waits for it may be interrupted, and wait again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self.written:
                    self._finish()
                else:
                    self._draft.give_up()
            except BaseException as error:
                self.written, self._error = 0, error
                self._draft.give_up()
            finally:
                if self._sound is not None:
                    self._sound.close()
                self._finished.set()

    def _finish(self) -> None:
        self._draft.encode(self._stream, None)
        self._draft.last(self._stay())
        if self._sound is not None:
            self._sound.up_to(self._end())
            self.retimed_sound = self._sound.retimed
        if self._pace.uneven and holds.is_even(self._draft.container):
            self.notes.append(
                "its frames came unevenly, and are shown evenly, and so at other times: a file "
                f"{self.path.suffix} holds no others; write .mp4 or .mkv"
            )
        if holds.is_late(self._draft.container, self._stream.codec_context.codec.canonical_name):
            self.notes.append(
                f"a file {self.path.suffix} does not hold when pictures of this codec are shown: "
                "players show each at the next one's time; write .mp4 or .mkv"
            )
        self._draft.finish()

    def _check_size(self, index: int, size: Size) -> None:
        if self._size is None:
            with self._draft.opening():
                if self._manner.sound is None:
                    self._attempt([], size)
                self._manner.prepare(self._stream, size)
            self._size = Size(self._stream.width, self._stream.height)
        if size != self._size:
            raise InputError(
                f"frame {index} is {size}, and {self.path.name} is {self._size}: a video has one "
                "size; cut it where the size changes"
            )

    def _timestamp(self, frame: StreamFrame) -> int:
        """The frame's own; one frame later than the last where it has none, or jumps back."""
        begin, length = self._manner.span(frame)
        self._pace.count(begin)
        pts, last = self._ticks(begin), self._last
        if pts is None or (last is not None and pts <= last):
            self.retimed += 1
            pts = 0 if last is None else last + self._duration()
        self._last, self._length = pts, self._ticks(length) or 0
        return pts

    def _ticks(self, seconds: Fraction | None) -> int | None:
        return None if seconds is None else round(seconds / self._manner.base)

    def _duration(self) -> int:
        """Of a frame, in ticks."""
        return max(1, round(1 / (self._manner.rate * self._manner.base)))

    @property
    def _whole(self) -> bool:
        """Whether the last frame there is was written."""
        ended = self._manner.ended
        return ended is not None and self._seen >= ended

    def _stay(self) -> int:
        """How long the last picture stays, in ticks: what the file says of all its pictures, or of
        that one; 0 where it says nothing."""
        assert self._last is not None
        end = self._ticks(self._manner.end)
        left = 0 if end is None else end - self._last
        return left if self._whole and left > 0 else self._length

    def _end(self) -> float:
        """How far sound goes, in seconds: to its own end where all frames were written."""
        if self._whole:
            return math.inf
        assert self._last is not None
        return float((self._last + (self._stay() or self._duration())) * self._manner.base)


def _manner(
    source: Source, encoding: Encoding, rate: float | Fraction | None, notes: list[str]
) -> Manner:
    if not isinstance(source, VideoSource):
        return LikeFrames(encoding, notes, rate=rate, live=source.live)
    if rate is not None:
        raise UsageError("rate: a video file's frames keep their own times; leave it out")
    return LikeSource(source, encoding, notes)
