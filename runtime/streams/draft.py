"""A video file while it is written: whole in its place at the end, or not there at all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.files import publish
from allfocus.runtime.streams import ffmpeg

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # Windows has no quota
_ROOMY = (".mp4", ".mkv")  # containers that take nearly everything


class Draft:
    """The container that becomes `path`. Of its stream of pictures one packet is held back, since
    the last one in the file says how long the last picture stays.

    Raises UsageError where `path` is that of no container that can be written, and AllfocusError
    where its folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: Any = None
        self._broken = False  # something is missing in it: it must not be published
        self._stack = ExitStack()
        draft = self._stack.enter_context(publish(path))
        try:
            with self.opening():
                self.container = ffmpeg.load().open(str(draft), "w")
        except BaseException:
            self._remove()
            raise

    @contextmanager
    def opening(self) -> Iterator[None]:
        """What goes wrong within is the fault of the container, or of the codec."""
        try:
            yield
        except AllfocusError:
            raise
        except (ffmpeg.load().error.FFmpegError, ValueError, OSError) as error:
            raise UsageError(
                f"{self.path}: cannot be written as a video ({error}); {self._another()}"
            ) from None

    def encode(self, stream: Any, frame: Any) -> None:
        """Write a frame, or with None what is left of them but the last packet."""
        try:
            packets = list(stream.encode(frame))
        except ffmpeg.load().error.FFmpegError as error:
            raise AllfocusError(f"{self.path.name}: its encoder refuses a frame: {error}") from None
        for packet in packets:
            if self._held is not None:
                self.mux(self._held)
            self._held = packet

    def last(self, stay: int) -> None:
        """Write the packet that is left; the picture stays for `stay` ticks, 0: as it says."""
        if self._held is not None:
            self._held.duration = stay or self._held.duration
            self.mux(self._held)
            self._held = None

    def mux(self, packet: Any) -> None:
        """Write a packet of any stream."""
        if self._broken:  # FFmpeg would crash after a head that it could not write
            raise self._incomplete()
        try:
            self.container.mux(packet)
        except (ffmpeg.load().error.FFmpegError, OSError) as error:
            self._broken = True
            raise self._unwritten(error) from None

    def finish(self) -> None:
        """Put it into its place."""
        if self._broken:  # even if there is space again: a part is missing
            raise self._incomplete()
        try:
            self.container.close()
        except (ffmpeg.load().error.FFmpegError, OSError) as error:
            raise self._unwritten(error) from None
        self._stack.close()

    def give_up(self) -> None:
        """Leave nothing behind, neither an open file."""
        with suppress(ffmpeg.load().error.FFmpegError, OSError):
            self.container.close()
        self._remove()

    def _remove(self) -> None:
        error = AllfocusError(f"{self.path}: given up")
        self._stack.__exit__(AllfocusError, error, None)

    def _incomplete(self) -> AllfocusError:
        return AllfocusError(f"{self.path} could not be written whole, and is not kept")

    def _unwritten(self, error: Any) -> AllfocusError:
        if error.errno in _FULL:
            advice = "free some space there, or choose another place"
        elif isinstance(error, OSError):
            advice = "choose another place"
        else:  # FFmpeg's own: the container does not take what it is given
            advice = self._another()
        return AllfocusError(f"cannot write {self.path}: {error.strerror or error}; {advice}")

    def _another(self) -> str:
        others = [suffix for suffix in _ROOMY if suffix != self.path.suffix.lower()]
        return f"take {' or '.join(others)}, or another --codec"
