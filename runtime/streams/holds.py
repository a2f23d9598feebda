"""What a container holds: known of it, or tried in memory before a frame is worked on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

from allfocus.runtime.streams import ffmpeg

# FFmpeg writes all else into these as data, or under a wrong name, which no player finds.
_SOUND_OF_TS = {"mp1", "mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus"}
_PLAYED = {
    "mpegts": _SOUND_OF_TS | {"s302m", "dvb_subtitle", "dvb_teletext"},
    "mpeg": {"mp1", "mp2", "mp3", "ac3", "dts", "pcm_s16be", "pcm_dvd", "dvd_subtitle"},
}
# These have one rate, or no times at all: FFmpeg writes uneven frames as if they were even.
_EVEN = {"mpeg", "vob", "svcd", "dvd", "vcd", "ogg", "ogv", "dv"} | {
    *("yuv4mpegpipe", "h264", "hevc", "m4v", "mpeg1video", "mpeg2video", "mjpeg"),
}
# Players time pictures in these by the order they are stored in, as if others came between them.
_LATE = {"avi": {"h264", "hevc"}}
_BLURAY = {"pcm_bluray", "hdmv_pgs_subtitle", "hdmv_text_subtitle"}  # also in .m2ts


def is_found(target: Any, codec: str) -> bool:
    """Whether players find sound or subtitles of the `codec` in the container `target`."""
    played = _PLAYED.get(target.format.name)
    bluray = codec in _BLURAY and target.name.lower().endswith(".m2ts")
    return played is None or codec in played or bluray


def is_even(target: Any) -> bool:
    """Whether the container `target` shows all frames equally long, whatever their times."""
    return target.format.name in _EVEN


def is_late(target: Any, codec: str) -> bool:
    """Whether players show pictures of the `codec` in the container `target` at the next one's
    time."""
    return codec in _LATE.get(target.format.name, ())


def attempt(kind: Any, add: Callable[[Any], None]) -> None:
    """Raise ValueError where a container of the format `kind` refuses the streams that `add` gives
    it at its head, and what `add` raises.

    In memory: FFmpeg leaves a file open whose head was refused, and crashes at more of it.
    """
    if kind.no_file:  # it would write files of its own
        return
    av = ffmpeg.load()
    container = av.open(BytesIO(), "w", format=kind.name)
    try:
        add(container)
        container.start_encoding()
    except av.error.FFmpegError as error:
        raise ValueError(f"{kind.name} refuses its streams: {error.strerror}") from None
    finally:
        with suppress(av.error.FFmpegError, ValueError, OSError):  # of an empty one
            container.close()
