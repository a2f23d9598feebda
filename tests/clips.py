"""Short videos with sound, made of the package's photo: what the tests of video read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import allfocus

PHOTO = Path(allfocus.__file__).parent / "data" / "chelsea.png"
RATE, SOUND_RATE = 25, 44_100
BASE = Fraction(1, 12_800)  # of the timestamps


def moving(index: int, width: int, height: int) -> NDArray[np.uint8]:
    """The photo, BGR, moved on by a few pixels a frame."""
    photo = cv2.imread(str(PHOTO), cv2.IMREAD_COLOR)
    assert photo is not None
    left = 3 * index % (photo.shape[1] - width)
    return np.ascontiguousarray(photo[20 : 20 + height, left : left + width], np.uint8)


def timestamps(count: int) -> list[int]:
    """Uneven ones: a camera's, in units of BASE."""
    return [512 * n + (n % 3) * 40 for n in range(count)]


def write_clip(
    path: Path,
    count: int = 12,
    *,
    width: int = 96,
    height: int = 64,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: bool = True,
    tags: dict[str, int] | None = None,
    options: dict[str, str] | None = None,
    base: Fraction = BASE,
    turned: int = 0,
    tone: float | None = None,
) -> Path:
    """A clip of `count` frames, `turned` by degrees, with a tone of `tone` seconds (as long)."""
    import av

    with av.open(str(path), "w") as container:
        container.metadata["title"] = "a cat"
        video: Any = container.add_stream(codec, rate=RATE)
        video.width, video.height, video.pix_fmt = width, height, pixels
        video.time_base = video.codec_context.time_base = base
        video.options = {"crf": "10"} if options is None else options
        if turned:
            video.set_display_rotation(turned)
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        audio: Any = container.add_stream("aac", rate=SOUND_RATE) if sound else None
        if sound:
            audio.layout = "mono"
        for index, pts in enumerate(timestamps(count)):
            frame = av.VideoFrame.from_ndarray(moving(index, width, height), format="bgr24")
            frame = frame.reformat(format=pixels)
            frame.pts, frame.time_base = round(pts * BASE / base), base
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if sound:
            _write_tone(container, audio, count / RATE if tone is None else tone)
    return path


def _write_tone(container: Any, audio: Any, seconds: float) -> None:
    import av

    times = np.arange(int(SOUND_RATE * seconds)) / SOUND_RATE
    samples = (np.sin(2 * np.pi * 440 * times) * 20_000).astype(np.int16)
    for start in range(0, len(samples), 1024):
        part = samples[None, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
        frame.rate, frame.pts = SOUND_RATE, start
        container.mux(audio.encode(frame))
    container.mux(audio.encode())


def decoded(path: Path) -> list[Any]:
    """All frames of a video, as `av.VideoFrame`s."""
    import av

    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def sound_of(path: Path) -> list[bytes]:
    """The packets of a file's sound, as they stand there."""
    import av

    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(audio=0) if p.size]
