"""The image formats, as a table: how to know each, read its header, label it, what it can hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pictures import bmp, jpeg, png, tiff, webp
from allfocus.runtime.pictures.metadata import Header, Metadata


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format; `embed` puts metadata into encoded bytes and notes what it cannot."""

    name: str
    suffixes: tuple[str, ...]
    known: Callable[[bytes], bool]  # by the file's first bytes
    inspect: Callable[[bytes], Header]
    embed: Callable[[bytes, Metadata], tuple[bytes, tuple[str, ...]]]
    deep: bool = False  # holds 16 bits
    alpha: bool = True
    exif: bool = True
    grey: bool = True  # without colours; else greys become three equal ones


FORMATS = (
    Format(
        name="PNG",
        suffixes=(".png",),
        known=lambda head: head.startswith(png.MAGIC),
        inspect=png.inspect,
        embed=png.embed,
        deep=True,
    ),
    Format(
        name="JPEG",
        suffixes=(".jpg", ".jpeg", ".jpe"),
        known=lambda head: head.startswith(jpeg.MAGIC),
        inspect=jpeg.inspect,
        embed=jpeg.embed,
        alpha=False,
    ),
    Format(
        name="TIFF",
        suffixes=(".tif", ".tiff"),
        known=lambda head: head.startswith(tiff.MAGICS),
        inspect=tiff.inspect,
        embed=tiff.embed,
        deep=True,
    ),
    Format(
        name="WebP",
        suffixes=(".webp",),
        known=webp.is_webp,
        inspect=webp.inspect,
        embed=webp.embed,
        grey=False,
    ),
    Format(
        name="BMP",
        suffixes=(".bmp",),
        known=lambda head: head.startswith(bmp.MAGIC),
        inspect=bmp.inspect,
        embed=bmp.embed,
        exif=False,
    ),
)
SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)


def format_for(path: Path) -> Format:
    """The format a file of this name is written in; raises UsageError for an unknown suffix."""
    for form in FORMATS:
        if path.suffix.lower() in form.suffixes:
            return form
    raise UsageError(f"{path}: no picture format has this suffix; use one of {', '.join(SUFFIXES)}")


def format_of(head: bytes) -> Format:
    """The format of a file that begins with `head`; raises InputError where it is none of them."""
    if not head:
        raise InputError("empty (0 bytes); get a whole copy of the file")
    for form in FORMATS:
        if form.known(head):
            return form
    names = ", ".join(form.name for form in FORMATS)
    raise InputError(
        f"not a picture that can be read here: its first bytes are {head[:8]!r}; convert it to one "
        f"of {names}"
    )
