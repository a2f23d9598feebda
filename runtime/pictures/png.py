"""PNG files: what they declare, whether they are whole, and metadata put into one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.metadata import Header, Metadata

MAGIC = b"\x89PNG\r\n\x1a\n"
# What pixels mean as light; the other chunks to keep name themselves safe (see `_is_kept`).
_COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"mDCv", b"cLLI", b"cLLi")
_XMP = b"XML:com.adobe.xmp\0"
_MAX_TEXT = 64 << 20  # bytes a compressed profile or packet may unfold to


def inspect(data: bytes) -> Header:
    """Read the chunks of `data`; raises InputError where it is damaged or cut short."""
    chunks = list(_chunks(data))
    kind, body = chunks[0] if chunks else (b"", b"")
    if kind != b"IHDR" or len(body) != 13:
        raise InputError("damaged: a PNG must begin with its header; get a whole copy of the file")
    width, height, _, colour = struct.unpack(">IIBB", body[:10])
    kinds = {k for k, _ in chunks}
    if b"acTL" in kinds:
        raise InputError("an animated PNG; save the frame you want as a still picture")
    notes = ("its transparent grey tone was left out",) if colour == 0 and b"tRNS" in kinds else ()
    return Header(
        width=width,
        height=height,
        metadata=_metadata(chunks),
        channels=2 if colour == 4 else 0,
        notes=notes,
    )


def embed(encoded: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """`encoded` with `metadata` put in, and notes of what a PNG cannot hold: nothing."""
    chunks = list(_chunks(encoded))
    extra = list(metadata.native)
    if metadata.icc is not None:
        extra.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.exif is not None:
        extra.append(_chunk(b"eXIf", metadata.exif))
    if metadata.xmp is not None:
        extra.append(_chunk(b"iTXt", _XMP + b"\0\0\0\0" + metadata.xmp))
    picture = [_chunk(k, body) for k, body in chunks if k[:1].isupper()]
    return b"".join([MAGIC, picture[0], *extra, *picture[1:]]), ()


def encode_grey_alpha(pixels: NDArray[Any]) -> bytes:
    """A PNG of grey and alpha [H, W, 2], uint8 or uint16, which OpenCV cannot write."""
    height, width, _ = pixels.shape
    depth = 8 * pixels.itemsize
    step = 2 * pixels.itemsize  # bytes a pixel
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    rows = np.frombuffer(big.tobytes(), np.uint8).reshape(height, width * step)
    filtered = np.empty((height, 1 + width * step), np.uint8)
    filtered[:, 0] = 1  # each row as differences to the pixel on the left
    filtered[:, 1 : 1 + step] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
    header = struct.pack(">IIBBBBB", width, height, depth, 4, 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 3)
    return MAGIC + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk up to IEND, checked; raises InputError."""
    place = len(MAGIC)
    kind = b""
    while kind != b"IEND":
        if place + 12 > len(data):
            raise _cut(len(data))
        length, kind = struct.unpack_from(">I4s", data, place)
        end = place + 12 + length
        if end > len(data):
            raise _cut(len(data))
        body = data[place + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise InputError(
                f"damaged: the checksum of a {kind.decode('latin-1')} chunk does not fit; get a "
                "whole copy of the file"
            )
        yield kind, body
        place = end


def _cut(size: int) -> InputError:
    return InputError(f"cut short: the PNG breaks off at byte {size}; get a whole copy of the file")


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def _metadata(chunks: list[tuple[bytes, bytes]]) -> Metadata:
    exif = icc = xmp = None
    native = []
    for kind, body in chunks:
        if kind == b"eXIf":
            exif = body
        elif kind == b"iCCP":
            icc = _unfold(body.partition(b"\0")[2][1:])
        elif kind == b"iTXt" and body.startswith(_XMP):
            xmp = _packet(body[len(_XMP) :])
        elif _is_kept(kind):
            native.append(_chunk(kind, body))
    return Metadata(exif=exif, icc=icc, xmp=xmp, native=tuple(native))


def _is_kept(kind: bytes) -> bool:
    """Colour, and ancillary chunks that may be copied to a changed picture (lower case 4th)."""
    return kind in _COLOUR or (kind[:1].islower() and kind[3:].islower())


def _packet(rest: bytes) -> bytes:
    """The text of an iTXt chunk from its compression flag on."""
    compressed, rest = rest[:1] == b"\1", rest[2:]
    for _ in range(2):  # language, then the keyword in that language
        rest = rest.partition(b"\0")[2]
    return _unfold(rest) if compressed else rest


def _unfold(data: bytes) -> bytes:
    unfold = zlib.decompressobj()
    try:
        text = unfold.decompress(data, _MAX_TEXT)
    except zlib.error as error:
        raise InputError(f"damaged: a compressed chunk does not unfold ({error})") from None
    if unfold.unconsumed_tail:
        raise InputError(f"damaged: a chunk unfolds to over {_MAX_TEXT >> 20} MiB")
    return text
