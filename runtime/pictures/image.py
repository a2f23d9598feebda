"""Image files in and out: PNG, JPEG, TIFF, WebP and BMP, 8 and 16 bit, with their metadata.

OpenCV decodes and encodes the pixels. What it does not do is done here: files that are cut short
or too large are refused before they are decoded, and EXIF, colour profile and XMP are carried over
(OpenCV's own functions for that leave out TIFF).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError, LimitError
from allfocus.runtime.files import publish
from allfocus.runtime.pictures import png, tiff
from allfocus.runtime.pictures.formats import Format, format_for, format_of
from allfocus.runtime.pictures.metadata import (
    Header,
    Metadata,
    orientation,
    profile_of_colours,
    upright,
)

Pixels = NDArray[Any]

MAX_PIXELS = 200_000_000  # of one picture, unless the caller allows more
OPENCV_MAX_PIXELS = 1 << 30  # OpenCV decodes no more
_QUALITY = 95  # of JPEG and lossy WebP, at least, where the caller gives none


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture as its file stores it: not turned, colours as they are.

    `pixels` is uint8 or uint16: [H, W] grey, [H, W, 2] grey and alpha, [H, W, 3] BGR, or
    [H, W, 4] BGRA.
    """

    pixels: Pixels
    metadata: Metadata
    format: str  # a name in FORMATS
    lossless: bool  # the file held the exact pixels
    quality: int = 0  # 1 to 100, that it was written with, where it was a JPEG
    notes: tuple[str, ...] = ()  # what the file had that cannot be carried over

    def frame(self) -> Pixels:
        """The pixels as a Deblurrer takes them: grey with alpha goes in without its alpha."""
        return np.ascontiguousarray(self.pixels[..., 0]) if self._grey_alpha else self.pixels

    def with_frame(self, image: Pixels) -> Picture:
        """The same picture with a result of `frame` in its place, and its own alpha."""
        pixels = np.dstack((image, self.pixels[..., 1])) if self._grey_alpha else image
        return replace(self, pixels=pixels)

    @property
    def _grey_alpha(self) -> bool:
        return self.pixels.ndim == 3 and self.pixels.shape[2] == 2


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a picture as it is stored; the format comes from the content, not from the name.

    Raises InputError where the file is missing, no picture, damaged, cut short, or of a kind that
    would not be read rightly, and LimitError where only `max_pixels` (width times height) is less,
    or the memory that OpenCV gets.
    """
    try:
        form, data = _read_bytes(path)
        header = form.inspect(data)
        _check_size(header, max_pixels)
        pixels = _decode(tiff.for_opencv(data) if form.name == "TIFF" else data, header)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    return Picture(
        pixels=pixels,
        metadata=header.metadata,
        format=form.name,
        lossless=header.lossless,
        quality=header.quality,
        notes=header.notes,
    )


def write_image(path: Path, picture: Picture, *, quality: int | None = None) -> tuple[str, ...]:
    """Write `picture` in the format that `path` names; return notes of what that cannot hold.

    `quality` 1 to 100 counts for JPEG, whose chroma stays at full size, and for WebP where the
    source was lossy. None: that of the source, and at least 95, so that what was sharp is not
    harmed by being saved. The file is whole or not there.

    Raises InputError where the format cannot hold `picture`, UsageError where `path` names none,
    and AllfocusError where it cannot be written.
    """
    if quality is None:
        quality = max(_QUALITY, picture.quality)
    form = format_for(path)
    try:
        data, notes = encode_image(picture, form, quality)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None
    with publish(path) as temporary:
        temporary.write_bytes(data)
    return notes


def encode_image(picture: Picture, form: Format, quality: int) -> tuple[bytes, tuple[str, ...]]:
    """The bytes of `picture` as a file of `form`, and notes of what that cannot hold.

    Raises InputError where it cannot be such a file.
    """
    metadata = picture.metadata
    if form.name != picture.format:
        if picture.pixels.ndim == 3 and metadata.tiff_alpha == tiff.ASSOCIATED:
            raise InputError("its colours are multiplied by alpha, as only TIFF can say: keep TIFF")
        metadata = replace(metadata, native=(), tiff_alpha=tiff.STRAIGHT)
    pixels, notes = _fit(picture.pixels, form)
    if not form.grey or (pixels.ndim == 3 and pixels.shape[2] > 2):
        icc, lost = profile_of_colours(metadata.icc)
        metadata, notes = replace(metadata, icc=icc), notes + lost
    if not form.exif:
        pixels = upright(pixels, orientation(metadata))
    if form.name == "PNG" and pixels.ndim == 3 and pixels.shape[2] == 2:
        data = png.encode_grey_alpha(pixels)
    else:
        data = _encode(pixels, form, quality, picture.lossless)
    data, lost = form.embed(data, metadata)
    return data, notes + lost


def _read_bytes(path: Path) -> tuple[Format, bytes]:
    """The format and all bytes of a file; what is no picture is not read in whole."""
    if path.is_dir():
        raise InputError("a folder, where a picture was expected")
    try:
        with path.open("rb") as file:
            head = file.read(16)
            return format_of(head), head + file.read()
    except FileNotFoundError:
        raise InputError("no such file") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from error


def _check_size(header: Header, max_pixels: int) -> None:
    pixels, size = header.width * header.height, f"{header.width}x{header.height}"
    if header.width < 1 or header.height < 1:
        raise InputError(f"declares {size} pixels; get a whole copy of the file")
    if pixels > max_pixels:
        said = f"{size} is {pixels:,} pixels, the limit is {max_pixels:,}"
        if pixels > OPENCV_MAX_PIXELS:
            raise InputError(f"{said}; cut it into parts")
        raise LimitError(f"{said}; if it is meant to be, allow it with --max-pixels {pixels}")


def _decode(data: bytes, header: Header) -> Pixels:
    with _SILENCE:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            _check_memory(error)
            pixels = None
    if pixels is None:
        raise InputError(
            "damaged, or of a kind OpenCV cannot decode; open it in an image editor and save it "
            "anew as PNG"
        )
    if pixels.shape[:2] != (header.height, header.width) or pixels.dtype not in (
        np.uint8,
        np.uint16,
    ):
        raise InputError(
            f"decoded as {pixels.dtype} {list(pixels.shape)} where the file declares "
            f"{header.width}x{header.height} of 8 or 16 bits; save it anew as PNG"
        )
    return _compact(pixels, header.channels)


def _compact(pixels: Pixels, channels: int) -> Pixels:
    """`pixels` without the channels that OpenCV added to those of the file."""
    if channels == 2:
        return np.ascontiguousarray(pixels[..., 2:])
    return np.ascontiguousarray(pixels[..., :channels]) if channels else pixels


def _fit(pixels: Pixels, form: Format) -> tuple[Pixels, tuple[str, ...]]:
    """`pixels` in a depth and with channels that `form` can hold, and notes of what is lost."""
    notes = []
    if pixels.dtype == np.uint16 and not form.deep:
        pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        notes.append(f"16 bits became 8: a {form.name} holds no more")
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4) and not form.alpha:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
        notes.append(f"its transparency was left out: a {form.name} holds none")
    if pixels.ndim == 3 and pixels.shape[2] == 2 and form.name != "PNG":
        pixels = pixels[..., (0, 0, 0, 1)]
    return np.ascontiguousarray(pixels), tuple(notes)


def _encode(pixels: Pixels, form: Format, quality: int, lossless: bool) -> bytes:
    options = {
        "JPEG": [
            *(cv2.IMWRITE_JPEG_QUALITY, quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ],
        "WebP": [cv2.IMWRITE_WEBP_QUALITY, 101 if lossless else quality],  # over 100: lossless
    }
    with _SILENCE:
        try:
            done, data = cv2.imencode(form.suffixes[0], pixels, options.get(form.name, []))
        except cv2.error as error:
            _check_memory(error)
            done = False
    if not done:
        height, width = pixels.shape[:2]
        raise InputError(f"OpenCV cannot write {width}x{height} as {form.name}; choose PNG")
    return data.tobytes()


def too_little_memory(error: Exception) -> LimitError | None:
    """What to tell where Python, NumPy or OpenCV got no memory; None for any other error."""
    if not isinstance(error, MemoryError) and getattr(error, "code", 0) != cv2.Error.StsNoMem:
        return None
    reason = getattr(error, "err", "") or str(error) or "none is left"
    return LimitError(
        f"too large for the memory there is ({reason}): give less --memory, end other programs, "
        "allow this one more, or make the picture smaller"
    )


def _check_memory(error: cv2.error) -> None:
    """Raise LimitError where that was missing: then nothing is wrong with the picture."""
    lack = too_little_memory(error)
    if lack is not None:
        raise lack from None


class _Silence:
    """Keeps OpenCV from printing what is raised as an error of ours.

    Its level is one for all threads: the first to come in changes it, the last sets it back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = self._level = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._level = cv2.utils.logging.setLogLevel(0)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.utils.logging.setLogLevel(self._level)


_SILENCE = _Silence()
