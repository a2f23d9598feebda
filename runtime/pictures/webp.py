"""WebP files: what they declare, whether they are whole, and metadata put into one."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.metadata import Header, Metadata, keepable_profile

_HAS_ICC, _HAS_ALPHA, _HAS_EXIF, _HAS_XMP = 0x20, 0x10, 0x08, 0x04  # flags of the VP8X chunk


def is_webp(data: bytes) -> bool:
    """True where `data` begins as a WebP file does."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def inspect(data: bytes) -> Header:
    """Read the chunks of `data`; raises InputError where it is damaged or cut short."""
    chunks = dict(_chunks(data))
    if b"ANIM" in chunks:
        raise InputError("an animated WebP; save the frame you want as a still picture")
    width, height, _ = _size(chunks)
    exif = chunks.get(b"EXIF")
    icc, notes = keepable_profile(chunks.get(b"ICCP"))
    metadata = Metadata(
        exif=exif.removeprefix(b"Exif\0\0") if exif is not None else None,
        icc=icc,
        xmp=chunks.get(b"XMP "),
    )
    lossless = b"VP8L" in chunks
    return Header(width=width, height=height, metadata=metadata, lossless=lossless, notes=notes)


def embed(encoded: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """`encoded` with `metadata` put in, and notes of what a WebP cannot hold: nothing."""
    chunks = dict(_chunks(encoded))
    width, height, alpha = _size(chunks)
    flags = _HAS_ALPHA if alpha else 0
    body = []
    if metadata.icc is not None:
        flags |= _HAS_ICC
        body.append(_chunk(b"ICCP", metadata.icc))
    body += [_chunk(k, chunks[k]) for k in (b"ALPH", b"VP8 ", b"VP8L") if k in chunks]
    for kind, flag, block in (
        (b"EXIF", _HAS_EXIF, metadata.exif),
        (b"XMP ", _HAS_XMP, metadata.xmp),
    ):
        if block is not None:
            flags |= flag
            body.append(_chunk(kind, block))
    sides = struct.pack("<II", width - 1, height - 1)
    extended = struct.pack("<I", flags) + sides[:3] + sides[4:7]
    content = b"WEBP" + _chunk(b"VP8X", extended) + b"".join(body)
    return b"RIFF" + struct.pack("<I", len(content)) + content, ()


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk; raises InputError where the file ends before them."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    place = 12
    while place + 8 <= min(end, len(data)):
        kind, length = struct.unpack_from("<4sI", data, place)
        yield kind, data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
    if end > len(data):
        raise InputError(
            f"cut short: the WebP declares {end} bytes and has {len(data)}; get a whole copy of "
            "the file"
        )


def _size(chunks: dict[bytes, bytes]) -> tuple[int, int, bool]:
    """Width and height in pixels, and whether there is alpha."""
    extended, lossless, lossy = (chunks.get(k, b"") for k in (b"VP8X", b"VP8L", b"VP8 "))
    if len(extended) >= 10:
        width = int.from_bytes(extended[4:7], "little") + 1
        height = int.from_bytes(extended[7:10], "little") + 1
        return width, height, bool(extended[0] & _HAS_ALPHA)
    if len(lossless) >= 5:
        packed = int.from_bytes(lossless[1:5], "little")  # 14 bits, 14 bits, alpha
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, bool(packed >> 28 & 1)
    if len(lossy) >= 10:
        width, height = struct.unpack_from("<HH", lossy, 6)
        return width & 0x3FFF, height & 0x3FFF, False
    raise InputError("damaged: the WebP declares no size; get a whole copy of the file")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
