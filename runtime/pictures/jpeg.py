"""JPEG files: what they declare, whether they are whole, and metadata put into one."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.jpeg_quality import quality_of
from allfocus.runtime.pictures.metadata import CMYK_NOTE, Header, Metadata, keepable_profile

MAGIC = b"\xff\xd8\xff"

_APP0, _APP1, _APP2, _APP13, _COM = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
_SOS, _EOI, _DQT = 0xDA, 0xD9, 0xDB
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame; the rest are tables
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_LONG_XMP, _PICTURES = b"http://ns.adobe.com/xmp/extension/\0", b"MPF\0"
_ROOM = 0xFFFF - 2  # bytes a segment holds
# Ends scan data, in which FF00 and FFD0 to FFD7 stand too; any number of FF may fill the space.
_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")

_Segments = list[tuple[int, bytes]]


def inspect(data: bytes) -> Header:
    """Read the segments of `data`; raises InputError where it is damaged or cut short."""
    segments = list(_segments(data))
    frames = [body for kind, body in segments if kind in _FRAMES]
    if not frames or len(frames[0]) < 6:
        raise InputError("damaged: the JPEG declares no size; get a whole copy of the file")
    depth, height, width, channels = struct.unpack(">BHHB", frames[0][:6])
    if depth != 8:
        raise InputError(f"a JPEG of {depth} bits; save it as a 16-bit PNG or TIFF")
    icc, notes = keepable_profile(_profile(segments))
    if channels == 4:
        notes = (CMYK_NOTE,)
    if any(kind == _APP2 and body.startswith(_PICTURES) for kind, body in segments):
        notes = (*notes, "the further pictures in the file (MPF) were left out")
    return Header(
        width=width,
        height=height,
        metadata=_metadata(segments, icc),
        lossless=False,
        quality=quality_of(body for kind, body in segments if kind == _DQT),
        notes=notes,
    )


def embed(encoded: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """`encoded` with `metadata` put in, and notes of what a JPEG cannot hold."""
    extra, notes = _neutral(metadata)
    start = 4 + struct.unpack_from(">H", encoded, 4)[0]  # OpenCV begins with a JFIF segment
    jfif = [k for k in metadata.native if k[1] == _APP0] or [encoded[2:start]]
    rest = [k for k in metadata.native if k[1] != _APP0]
    return b"".join([encoded[:2], jfif[0], *extra, *rest, encoded[start:]]), notes


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of each segment up to the end of the image; raises InputError."""
    place = 2
    while True:
        found = _MARKER.match(data, place)
        if found is None:
            raise _cut(len(data)) if place + 2 > len(data) else _damaged(place)
        place, kind = found.end(), data[found.end() - 1]
        if kind == _EOI:
            return
        if place + 2 > len(data):
            raise _cut(len(data))
        end = place + struct.unpack_from(">H", data, place)[0]
        if end > len(data):
            raise _cut(len(data))
        yield kind, data[place + 2 : end]
        place = end
        if kind == _SOS:
            scan = _MARKER.search(data, end)
            if scan is None:
                raise _cut(len(data))
            place = scan.start()


def _cut(size: int) -> InputError:
    return InputError(
        f"cut short: the JPEG breaks off at byte {size} without its end mark; get a whole copy of "
        "the file, or save what is left of it anew in an image editor"
    )


def _damaged(place: int) -> InputError:
    return InputError(f"damaged: no JPEG marker at byte {place}; get a whole copy of the file")


def _profile(segments: _Segments) -> bytes | None:
    """The colour profile, from its numbered parts; None where one is missing."""
    parts = [
        body[len(_ICC) :] for kind, body in segments if kind == _APP2 and body.startswith(_ICC)
    ]
    parts = sorted(p for p in parts if len(p) > 2)
    if not parts or len(parts) != parts[0][1]:
        return None
    return b"".join(p[2:] for p in parts)


def _metadata(segments: _Segments, icc: bytes | None) -> Metadata:
    exif = xmp = None
    native = []
    for kind, body in segments:
        if kind == _APP1 and body.startswith(_EXIF):
            exif = body[len(_EXIF) :]
        elif kind == _APP1 and body.startswith(_XMP):
            xmp = body[len(_XMP) :]
        elif kind in (_APP13, _COM) or body.startswith((b"JFIF\0", _LONG_XMP)):
            native.append(_segment(kind, body))
    return Metadata(exif=exif, icc=icc, xmp=xmp, native=tuple(native))


def _neutral(metadata: Metadata) -> tuple[list[bytes], tuple[str, ...]]:
    """Segments for EXIF, XMP and the profile, and notes of what is too large for one."""
    segments, notes = [], []
    for name, prefix, body in (("EXIF", _EXIF, metadata.exif), ("XMP", _XMP, metadata.xmp)):
        if body is None:
            continue
        if len(prefix) + len(body) <= _ROOM:
            segments.append(_segment(_APP1, prefix + body))
        else:
            notes.append(f"its {name} block of {len(body)} bytes is too large for a JPEG")
    icc, room = metadata.icc or b"", _ROOM - len(_ICC) - 2
    parts = [icc[i : i + room] for i in range(0, len(icc), room)]
    if len(parts) > 255:
        notes.append(f"its colour profile of {len(icc)} bytes is too large for a JPEG")
        parts = []
    for number, part in enumerate(parts, 1):
        segments.append(_segment(_APP2, _ICC + bytes((number, len(parts))) + part))
    return segments, tuple(notes)


def _segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body
