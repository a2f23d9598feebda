"""PyAV, loaded where it is needed, and what its encoders need to be told."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from typing import Any

from allfocus.runtime.errors import BackendError, UsageError

QUALITY = 17  # constant rate factor of x264 and x265: what is lost is not seen
_ENCODERS = {  # of a codec's name, best first
    "h264": ("libx264", "h264"),
    "hevc": ("libx265", "hevc"),
    "vp8": ("libvpx",),
    "vp9": ("libvpx-vp9",),
    "av1": ("libsvtav1", "libaom-av1"),
}
_FALLBACK = ("libx264", "mpeg4")
_BY_FACTOR = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "libaom-av1")
_BY_SCALE = (
    "mjpeg",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "msmpeg4",
    "msmpeg4v2",
    "wmv1",
    "wmv2",
    "flv",
)
_LOSSLESS = ("ffv1", "huffyuv", "ffvhuff", "utvideo", "png", "rawvideo", "libx264rgb")
_FULL_RANGE = ("mjpeg",)  # refused otherwise
_FULL = "yuvj"  # how the names of pixel formats of the full range begin
LIMITED, FULL = 1, 2  # as FFmpeg numbers ranges
_LAMBDA = 118  # FF_QP2LAMBDA: a quantiser's scale, as encoders are told it
_MOST_TICKS = 65_535  # a second, of MPEG-4
TICK = Fraction(1, 60_000)  # s: whole ones for every usual rate, and not too many for MPEG-4
_NEAR = 0.001  # of a rate: what a mean is off by at most where all frames stay as long


@dataclass(frozen=True)
class Encoding:
    """How results are written: `codec` None is the source's own."""

    codec: str | None = None
    quality: int = QUALITY  # constant rate factor, 0 (best) to 51


def load() -> Any:
    """The module `av`; raises BackendError where it is not installed."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise BackendError(
            f'reading and writing video needs PyAV ({error}): pip install "allfocus[video]"'
        ) from error
    return av


def encoder(name: str, wanted: str | None, notes: list[str]) -> str:
    """The name of an encoder: `wanted`, or one of the codec `name`, such as h264.

    Raises UsageError where there is none of that name; another codec is noted.
    """
    for codec in (wanted,) if wanted else _ENCODERS.get(name, (name,)):
        if _can_encode(codec):
            return codec
    if wanted:
        raise UsageError(f"--codec {wanted}: PyAV here has no such encoder of pictures")
    found = next(codec for codec in _FALLBACK if _can_encode(codec))
    notes.append(f"there is no encoder for {name} here: written with {found}")
    return found


def held(container: Any, codec: str, notes: list[str]) -> str:
    """The encoder `codec` where a new container takes what it gives; else another one, which is
    noted. Where none is taken, the same: adding its stream will tell.
    """
    usual = container.default_video_codec
    others = (*_FALLBACK, *_ENCODERS.get(usual, (usual,)))
    if container.format.no_file or _holds(container, codec):  # it would write files of its own
        return codec
    found = next((c for c in others if _can_encode(c) and _holds(container, c)), codec)
    if found != codec:
        notes.append(f"{container.format.name} holds no {codec}: written with {found}")
    return found


def _holds(container: Any, codec: str) -> bool:
    try:
        with load().open(BytesIO(), "w", format=container.format.name) as tried:
            tried.add_stream(codec, rate=25)
    except ValueError:
        return False
    return True


def pixel_format(
    form: str, codec: str, notes: list[str], *, full: bool = False, even: bool = True
) -> str:
    """The pixel format `form` where the encoder takes it; else another one, which is noted.

    `full`: its values go from 0 to 255. Names with yuvj say so by themselves. Without `even` sides
    chroma is not taken at half the resolution, unless it was.
    """
    av = load()
    if any(part.is_alpha for part in av.VideoFormat(form).components):
        notes.append(f"pixels as {form}: what was transparent becomes solid")
    able = [each.name for each in av.Codec(codec, "w").video_formats or ()]
    if codec in _FULL_RANGE and not (full or form.startswith(_FULL)):
        whole = form.replace("yuv", _FULL)
        chosen = whole if whole in able else f"{_FULL}420p"
        notes.append(f"{codec} takes values of the full range alone: {form} written as {chosen}")
        return chosen
    if not able or form in able:
        return form
    usual = ("yuv420p",) if even else ("yuv444p", "yuv420p")
    chosen = next((each for each in usual if each in able), able[0])
    notes.append(f"{codec} does not take pixels as {form}: written as {chosen}")
    return chosen


def range_of(form: str, usual: int) -> int:
    """The range of the pixel format `form`: the full one where its name says so, else `usual`."""
    return FULL if form.startswith(_FULL) else usual


def time_base(codec: str, wanted: Fraction, rate: Fraction, fastest: Fraction) -> Fraction:
    """`wanted`, or what the encoder knows instead: ticks that are not as short, or one frame of a
    rate on its list. Where none is the mean `rate`, it is one that no frame comes faster than
    (`fastest`): what is pushed on by the one before would fall behind its sound.
    """
    listed = [
        Fraction(r.numerator, r.denominator) for r in load().Codec(codec, "w").frame_rates or ()
    ]
    if listed:
        nearest = min(listed, key=lambda each: abs(each - rate))
        if abs(nearest - rate) > _NEAR * rate:
            nearest = min((each for each in listed if each >= fastest), default=max(listed))
        return 1 / nearest
    too_fine = codec == "mpeg4" and wanted.denominator > _MOST_TICKS
    return TICK if too_fine else wanted


def options(codec: str, quality: int, bits: int, notes: list[str]) -> dict[str, str]:
    """What makes an encoder keep `quality`; `bits` a second are more than it can need.

    No B-frames: they come in another order than they are shown in, and where the rate changes, a
    file then says a wrong length.
    """
    return {"bf": "0", **_quality(codec, quality, bits, notes)}


def _quality(codec: str, quality: int, bits: int, notes: list[str]) -> dict[str, str]:
    if codec in _BY_FACTOR:
        unbounded = {"b": "0"} if codec == "libvpx-vp9" else {}
        return {"crf": str(quality), **unbounded}
    if codec == "libvpx":  # whose factor is the best quality, and the rate decides
        return {"crf": str(quality), "b": str(bits)}
    if codec in _BY_SCALE:  # twice the factor's step for each 6, as H.264 has it
        scale = min(31, max(1, round(2 * 2 ** ((quality - QUALITY) / 6))))
        return {"flags": "+qscale", "global_quality": str(_LAMBDA * scale)}
    if codec not in _LOSSLESS:
        notes.append(f"{codec} takes no --quality: it is given {bits / 1e6:.3g} Mbit/s")
        return {"b": str(bits)}
    return {}


def _can_encode(codec: str | None) -> bool:
    """Pictures, that is: there are encoders of sound and of subtitles too."""
    av = load()
    try:
        return bool(av.Codec(codec, "w").type == "video")
    except (ValueError, av.error.FFmpegError):
        return False
