"""BMP files: what they declare. They hold no metadata that would be worth carrying over."""

from __future__ import annotations

import struct

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.metadata import Header, Metadata

MAGIC = b"BM"
_OLD_HEADER = 12  # bytes: OS/2's, with 16-bit sizes


def inspect(data: bytes) -> Header:
    """Read the header of `data`; raises InputError where the file is shorter than it says."""
    if len(data) < 26:
        raise InputError("cut short: no whole BMP header; get a whole copy of the file")
    start, header = struct.unpack_from("<II", data, 10)
    width, height = struct.unpack_from("<HH" if header == _OLD_HEADER else "<ii", data, 18)
    if start >= len(data):
        raise InputError(
            f"cut short: the BMP's pixels begin at byte {start} of {len(data)}; get a whole copy "
            "of the file"
        )
    # a negative height says that the rows stand from top to bottom
    return Header(width=width, height=abs(height), metadata=Metadata())


def embed(encoded: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """`encoded` as it is, and a note for each block of `metadata` that a BMP cannot hold."""
    blocks = (
        ("EXIF block", metadata.exif),
        ("colour profile", metadata.icc),
        ("XMP", metadata.xmp),
    )
    lost = [f"its {name} was left out: a BMP holds none" for name, block in blocks if block]
    return encoded, tuple(lost)
