"""What is not pictures in a video file, copied packet by packet into another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from allfocus.runtime.streams import ffmpeg, holds

_SLACK = 3  # ticks of a file that packets may lie before the last one, as rounded times do


class Sound:
    """Copies sound and subtitles of the file at `path`, in step with the pictures.

    `target` is the container that is written, `mux` puts a packet into it, `takes` tells whether
    its head can be written with some of the file's streams, and raises ValueError where it cannot
    without any. `notes` are told what is left out.
    `retimed`: packets whose time lies clearly before the last one's, as where recordings were
    joined; they and what comes later follow it instead.
    """

    def __init__(
        self,
        path: Path,
        target: Any,
        mux: Callable[[Any], None],
        takes: Callable[[list[Any]], bool],
        notes: list[str],
    ) -> None:
        self.retimed = 0
        self._container = ffmpeg.load().open(str(path))
        self._mux, self._notes = mux, notes
        self._shifts: dict[int, int] = {}  # in ticks of _fine
        self._last: dict[int, tuple[int, int]] = {}  # where the last packet begins and ends
        try:
            given = self._taken(self._copyable(target), takes, target.format.name)
            self._streams = {s.index: target.add_stream_from_template(s) for s in given}
        except BaseException:
            self._container.close()
            raise
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

    def _copyable(self, target: Any) -> list[Any]:
        """The streams of sound and subtitles that a player finds in `target`."""
        found, pictures = [], self._container.streams.video[:1]
        for stream in self._container.streams:
            if stream.type not in ("audio", "subtitle"):
                if stream not in pictures:
                    self._leave_out(stream, "only the first pictures, sound and subtitles are kept")
            elif not holds.is_found(target, _codec(stream)):
                self._leave_out(stream, f"players do not find it in {target.format.name}")
            else:
                found.append(stream)
        count = len(_chapters(self._container))
        if count:
            self._notes.append(f"chapters ({count}) are left out: they are not copied")
        return found

    def _taken(self, wanted: list[Any], takes: Callable[[list[Any]], bool], kind: str) -> list[Any]:
        """Those that can be written together; mostly all."""
        if takes(wanted):
            return wanted
        takes([])  # else it is not for their sake
        taken: list[Any] = []
        for stream in wanted:
            if takes([*taken, stream]):
                taken.append(stream)
            else:
                self._leave_out(stream, f"{kind} does not take it; .mkv takes most")
        return taken

    def _leave_out(self, stream: Any, why: str) -> None:
        name = f" ({_codec(stream)})" if _codec(stream) else ""
        self._notes.append(f"{stream.type} {stream.index}{name} is left out: {why}")

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
        """Move a packet to where its stream has come, if that lies later: for good after a jump
        back; but packets shorter than a tick of their file begin at once there, or all but."""
        index, sound = packet.stream.index, packet.stream.type == "audio"
        coarse = Fraction(packet.time_base)
        base = _fine(packet.stream) if sound else coarse
        ticks = coarse / base  # of ours in one of the file's
        given, shift = round(packet.dts * ticks), self._shifts.get(index, 0)
        begin = given + shift
        if index in self._last:
            begun, end = self._last[index]
            first = begun + sound  # several subtitles may begin at once, no two packets of sound do
            if first - begin > _SLACK * ticks:
                begin, self._shifts[index] = end, end - given
                self.retimed += 1
            begin = max(begin, first)
        length = round((packet.duration or 0) * ticks)
        later = None if packet.pts is None else round(packet.pts * ticks) - given
        packet.dts, packet.pts = begin, None if later is None else begin + later
        packet.duration, packet.time_base = length, base
        self._last[index] = begin, begin + max(1, length)


def copied(container: Any, streams: Iterable[Any]) -> None:
    """Add streams like these to a container."""
    for stream in streams:
        container.add_stream_from_template(stream)


def _fine(stream: Any) -> Fraction:
    """The time base of a stream, or one sample where the file has no ticks as short."""
    base, rate = Fraction(stream.time_base), stream.codec_context.sample_rate
    return min(base, Fraction(1, rate)) if rate else base


def _codec(stream: Any) -> str:
    """A stream's codec, as FFmpeg names it; empty where there is none."""
    context = getattr(stream, "codec_context", None)
    return "" if context is None else str(context.codec.canonical_name)


def _chapters(container: Any) -> list[Any]:
    """Of a file; none where PyAV is too old to tell."""
    return list(container.chapters()) if hasattr(container, "chapters") else []
