"""TIFF files: what they declare, whether they are whole, and metadata put into one.

OpenCV reads some kinds of TIFF wrongly without saying so (tried with 4.13 and 5.0): 16-bit planes
stored one after another, 16-bit white-is-zero, grey with alpha. They are refused here by name.
It also turns the pixels, and multiplies 8-bit colours by alpha; `for_opencv` keeps it from that.
"""

from __future__ import annotations

import struct

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.ifd import (
    EXIF,
    GPS,
    SHORT,
    Directory,
    Entry,
    IfdError,
    Order,
    build,
    entry_places,
    read_directory,
    read_header,
    stream,
)
from allfocus.runtime.pictures.metadata import (
    CMYK_NOTE,
    ORIENTATION,
    Header,
    Metadata,
    keepable_profile,
)

MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC = 254, 256, 257, 258, 262
_SAMPLES, _PLANES, _EXTRA, _FORMAT = 277, 284, 338, 339
_STRIPS, _STRIP_SIZES, _TILES, _TILE_SIZES = 273, 279, 324, 325
_XMP, _ICC, _DNG = 700, 34675, 50706
STRAIGHT, ASSOCIATED = 2, 1  # ExtraSamples: whether colours are multiplied by alpha already
_WHITE_IS_ZERO, _GREY, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)

# What a directory says of the picture rather than of how its pixels are laid out: EXIF's own list,
# with IPTC, the rating and the titles that Windows writes.
_DESCRIPTIVE = (
    *(270, 271, 272, ORIENTATION, 282, 283, 296, 301, 305, 306, 315, 316, 318, 319, 532),
    *(18246, 18249, 33432, 33723, 40091, 40092, 40093, 40094, 40095),
)

_AGAIN = "save it again as an ordinary RGB or grey TIFF or PNG"


def inspect(data: bytes) -> Header:
    """Read the directories of `data`; raises InputError where it is not one whole RGB picture."""
    try:
        order, first = read_header(data)
        page, _ = read_directory(data, order, first, depth=0)
        _refuse_many(data, order, first)
        return _inspect(data, order, first, page)
    except IfdError as error:
        if str(error) == "BigTIFF":
            raise InputError(f"a BigTIFF (64-bit offsets); {_AGAIN}") from None
        raise InputError(f"damaged or cut short ({error}); get a whole copy of the file") from None


def for_opencv(data: bytes) -> bytes:
    """`data` with tags set so that OpenCV gives the stored samples: neither turned nor scaled."""
    order, first = read_header(data)
    patched = bytearray(data)
    for place in entry_places(data, order, first):
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, place)
        if tag in (ORIENTATION, _EXTRA) and (kind, count) == (SHORT, 1):
            # one 16-bit value stands in the entry; 1 is "upright" and "multiplied already"
            struct.pack_into(f"{order}H", patched, place + 8, 1)
    return bytes(patched)


def embed(encoded: bytes, metadata: Metadata) -> tuple[bytes, tuple[str, ...]]:
    """`encoded` with `metadata` put in: a second directory at the end takes the first's place."""
    order, first = read_header(encoded)
    page, _ = read_directory(encoded, order, first)
    notes = _describe(page, metadata.exif)
    for tag, block in ((_ICC, metadata.icc), (_XMP, metadata.xmp)):
        if block is not None:
            page.entries[tag] = Entry.raw(block)
    if page.ints(_SAMPLES, (1,))[0] == 4:
        page.entries[_EXTRA] = Entry.short(metadata.tiff_alpha)
    body = encoded + b"\0" * (len(encoded) % 2)
    whole = bytearray(body + build(page, len(body), order))
    struct.pack_into(f"{order}I", whole, 4, len(body))
    return bytes(whole), notes


def _describe(page: Directory, exif: bytes | None) -> tuple[str, ...]:
    """Put the tags and directories of an EXIF block into `page`."""
    if exif is None:
        return ()
    try:
        order, first = read_header(exif)
        block, _ = read_directory(exif, order, first)
    except IfdError:
        return ("its EXIF block is damaged and was left out",)
    page.entries.update({tag: e for tag, e in block.entries.items() if tag in _DESCRIPTIVE})
    page.children.update(block.children)
    return ()


def _refuse_many(data: bytes, order: Order, first: int) -> None:
    """Raise InputError where there are more pictures than the first, thumbnails not counted."""
    seen, pages, place = set(), 0, first
    while place and place not in seen:
        seen.add(place)
        directory, place = read_directory(data, order, place, depth=0)
        pages += not directory.ints(_SUBFILE, (0,))[0] & 1  # bit 0: a smaller copy of another
    if pages > 1:
        raise InputError(f"holds {pages} pictures; split it into files of one picture each")


def _inspect(data: bytes, order: Order, first: int, page: Directory) -> Header:
    _refuse_raw(page)
    photometric = _refuse_layout(page)
    _refuse_cut(page, len(data))
    extra = page.ints(_EXTRA, (0,))[0]
    icc, notes = keepable_profile(page.entries[_ICC].data if _ICC in page.entries else None)
    exif, damage = _exif(data, order, first)
    xmp = page.entries[_XMP].data if _XMP in page.entries else None
    return Header(
        width=page.ints(_WIDTH, (0,))[0],
        height=page.ints(_HEIGHT, (0,))[0],
        metadata=Metadata(exif=exif, icc=icc, xmp=xmp, tiff_alpha=extra),
        channels=3 if photometric == _CMYK else 0,
        notes=((CMYK_NOTE,) if photometric == _CMYK else notes) + damage,
    )


def _refuse_raw(page: Directory) -> None:
    if _DNG in page.entries or page.ints(_SUBFILE, (0,))[0] & 1:
        raise InputError("a camera's raw file; develop it to a 16-bit TIFF or PNG first")


def _refuse_layout(page: Directory) -> int:
    """The colour model; raises InputError for pixels that are not read, or not read rightly."""
    bits, samples = page.ints(_BITS, (1,)), page.ints(_SAMPLES, (1,))[0]
    photometric, form = page.ints(_PHOTOMETRIC, (_GREY,))[0], page.ints(_FORMAT, (1,))
    deep = bits[0] == 16
    if set(form) != {1} or len(set(bits)) != 1 or bits[0] not in (1, 8, 16):
        kind = {2: "signed", 3: "floating-point"}.get(form[0], "unsigned")
        raise InputError(f"a TIFF of {kind} {bits[0]}-bit samples; save it with 8 or 16 bits")
    expected = {_GREY: (1,), _RGB: (3, 4), _PALETTE: (1,), _WHITE_IS_ZERO: (1,)}
    expected |= {_CMYK: (4,), _YCBCR: (3,)}
    if samples not in expected.get(photometric, ()):
        raise InputError(
            f"a TIFF of colour model {photometric} with {samples} samples a pixel; {_AGAIN}"
        )
    if deep and (photometric not in (_GREY, _RGB) or page.ints(_PLANES, (1,))[0] != 1):
        raise InputError(f"a 16-bit TIFF that is not plain interleaved RGB or grey; {_AGAIN}")
    return photometric


def _refuse_cut(page: Directory, size: int) -> None:
    """Raise InputError where strips or tiles are missing or reach over the end of the file."""
    tiled = _TILES in page.entries
    starts = page.ints(_TILES if tiled else _STRIPS, ())
    lengths = page.ints(_TILE_SIZES if tiled else _STRIP_SIZES, ())
    if not starts or len(starts) != len(lengths):
        raise InputError("damaged: the TIFF does not say where its pixels are")
    end = max(start + length for start, length in zip(starts, lengths, strict=True))
    if end > size:
        raise InputError(
            f"cut short: the TIFF's pixels end at byte {end} and the file at {size}; get a whole "
            "copy of the file"
        )


def _exif(data: bytes, order: Order, first: int) -> tuple[bytes | None, tuple[str, ...]]:
    """The descriptive tags as an EXIF block, None where there are none; and notes."""
    try:
        page, _ = read_directory(data, order, first)
    except IfdError:
        return None, ("its EXIF block is damaged and was left out",)
    entries = {tag: e for tag, e in page.entries.items() if tag in _DESCRIPTIVE}
    children = {tag: c for tag, c in page.children.items() if tag in (EXIF, GPS)}
    if not entries and not children:
        return None, ()
    return stream(Directory(entries, children)), ()
