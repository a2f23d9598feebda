"""What is not pictures in a video file, copied packet by packet into another one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from allfocus.runtime.streams import ffmpeg


class Sound:
    """Copies sound and subtitles of the file at `path`, in step with the pictures.

    `target` is the container that is written, `mux` puts a packet into it. `notes` are told what
    is left out. `retimed`: packets whose time was not after the one before, as where recordings
    were joined; they and what comes later follow it instead.
    """

    def __init__(
        self, path: Path, target: Any, mux: Callable[[Any], None], notes: list[str]
    ) -> None:
        self.retimed = 0
        self._container = ffmpeg.load().open(str(path))
        self._mux = mux
        self._streams: dict[int, Any] = {}
        self._shifts: dict[int, int] = {}  # in units of the stream's time base
        self._last: dict[int, tuple[int, int]] = {}  # where the last packet begins and ends
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

    def up_to(self, seconds: float) -> None:
        """Copy all packets that begin before `seconds`."""
        while True:
            packet = self._next if self._next is not None else self._read()
            self._next = None
            if packet is None:
                return
            if float(packet.dts * packet.time_base) >= seconds:
                self._next = packet
                return
            packet.stream = self._streams[packet.stream.index]
            self._mux(packet)

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()

    def _read(self) -> Any:
        """The next packet with its time; None at the end, which may be a damaged one."""
        try:
            while (packet := next(self._packets, None)) is not None:
                if packet.dts is not None:  # the end of a stream has none
                    self._place(packet)
                    return packet
        except ffmpeg.load().error.FFmpegError:
            return None
        return None

    def _place(self, packet: Any) -> None:
        """Move a packet to where its stream has come, if that lies later."""
        index, sound = packet.stream.index, packet.stream.type == "audio"
        begun, end = self._last.get(index, (None, 0))
        shift = self._shifts.get(index, 0)
        # several subtitles may begin at once, no two packets of sound do
        if begun is not None and packet.dts + shift < begun + sound:
            shift = self._shifts[index] = end - packet.dts
            self.retimed += 1
        if shift:
            packet.dts += shift
            packet.pts = None if packet.pts is None else packet.pts + shift
        self._last[index] = packet.dts, packet.dts + max(1, packet.duration or 0)
