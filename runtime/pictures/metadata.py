"""What an image file says beside its pixels, and what to do with a camera's orientation.

Pixels are processed as they are stored and the orientation tag is kept: the EXIF block then stays
what it was, byte for byte, the output lines up with the input pixel for pixel, and every viewer
turns both alike. Only for formats without EXIF (BMP) are the pixels turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.pictures.ifd import (
    Directory,
    Entry,
    IfdError,
    read_directory,
    read_header,
    stream,
)

ORIENTATION = 274  # the EXIF and TIFF tag
CMYK_NOTE = "its CMYK inks became RGB by the plain formula, without a colour profile"
_STRAIGHT = 2  # TIFF's ExtraSamples: colours not multiplied by alpha


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata in a form all formats share, and what only the same format can keep."""

    exif: bytes | None = None  # a TIFF stream, without the "Exif" prefix of JPEG
    icc: bytes | None = None  # a colour profile
    xmp: bytes | None = None  # an XML packet
    native: tuple[bytes, ...] = ()  # whole chunks or segments, for files of the same format
    tiff_alpha: int = _STRAIGHT  # TIFF's ExtraSamples tag of the fourth channel


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file declares before its pixels are decoded."""

    width: int  # pixels, as stored
    height: int
    metadata: Metadata
    lossless: bool = True  # the file holds the exact pixels
    quality: int = 0  # 1 to 100, that a JPEG was written with; 0: no JPEG
    channels: int = 0  # of the file, where OpenCV decodes it to four; 0: it has what is decoded
    notes: tuple[str, ...] = ()  # what the file has that cannot be carried over


def orientation(metadata: Metadata) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where none or no valid one is given."""
    if metadata.exif is None:
        return 1
    try:
        order, first = read_header(metadata.exif)
        value = read_directory(metadata.exif, order, first)[0].ints(ORIENTATION, (1,))[0]
    except IfdError:  # viewers ignore a damaged block as well
        return 1
    return value if value in range(1, 9) else 1


def orientation_only(metadata: Metadata) -> Metadata:
    """Metadata that turns a picture as `metadata` does, and says nothing else."""
    value = orientation(metadata)
    if value == 1:
        return Metadata()
    return Metadata(exif=stream(Directory({ORIENTATION: Entry.short(value)})))


def upright(pixels: NDArray[Any], value: int) -> NDArray[Any]:
    """`pixels` [H, W] or [H, W, C] turned and mirrored as EXIF orientation `value` asks."""
    if value >= 5:  # 5 to 8 are stored with rows and columns exchanged
        pixels = pixels.swapaxes(0, 1)
    if value in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if value in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def stored(pixels: NDArray[Any], value: int) -> NDArray[Any]:
    """The inverse of `upright`."""
    return upright(pixels, {6: 8, 8: 6}.get(value, value))


def keepable_profile(icc: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """`icc`, or None with a note where its colour space is not one that is written here."""
    space = icc[16:20] if icc is not None else b"RGB "
    if space in (b"RGB ", b"GRAY"):
        return icc, ()
    name = space.decode("ascii", "replace").strip()
    return None, (f"its {name} colour profile was left out: the colours are RGB now",)


def profile_of_colours(icc: bytes | None) -> tuple[bytes | None, tuple[str, ...]]:
    """`icc`, or None with a note where it is one of greys: a profile's space is its pixels'."""
    if icc is not None and icc[16:20] == b"GRAY":
        return None, ("its grey colour profile was left out: its pixels are written as colours",)
    return icc, ()
