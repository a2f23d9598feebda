"""TIFF directories (IFDs): the structure of TIFF files and of the EXIF blocks in other formats.

A directory is held without byte order: values are little-endian in memory whatever the file had.
A block that an EXIF maker note keeps in a private layout is carried as bytes; where such a note
points into its old file, no program can move it unharmed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Order = Literal["<", ">"]

EXIF, GPS, INTEROP = 34665, 34853, 40965  # tags whose value is the place of another directory
SHORT, LONG, UNDEFINED = 3, 4, 7

_POINTERS = (EXIF, GPS, INTEROP)

# Of a value of each TIFF type: its bytes, and the bytes of the words that byte order turns round.
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_WORD = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
_INTS = {1: "B", 3: "H", 4: "I", 13: "I"}


class IfdError(ValueError):
    """Bytes that are not a TIFF directory."""


@dataclass(frozen=True)
class Entry:
    """One tag's value: `count` values of TIFF type `kind`, little-endian."""

    kind: int
    count: int
    data: bytes

    @classmethod
    def short(cls, value: int) -> Entry:
        """An entry of one 16-bit number."""
        return cls(SHORT, 1, struct.pack("<H", value))

    @classmethod
    def raw(cls, data: bytes) -> Entry:
        """An entry of bytes without a further type, such as an ICC profile."""
        return cls(UNDEFINED, len(data), data)

    def ints(self) -> tuple[int, ...]:
        """The values of an entry of whole numbers; raises IfdError for other types."""
        if self.kind not in _INTS:
            raise IfdError(f"a tag of type {self.kind} where whole numbers stand")
        return struct.unpack(f"<{self.count}{_INTS[self.kind]}", self.data)

    def ordered(self, order: Order) -> bytes:
        """The value's bytes in `order`."""
        return _turned(self.data, self.kind) if order == ">" else self.data


@dataclass
class Directory:
    """Tags and their values, and the directories some tags point to."""

    entries: dict[int, Entry] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)

    def ints(self, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
        """The whole numbers under `tag`, or `default` where it is not there."""
        entry = self.entries.get(tag)
        return entry.ints() if entry is not None and entry.count else default


def read_header(data: bytes) -> tuple[Order, int]:
    """Byte order and place of the first directory of a TIFF stream; raises IfdError."""
    orders: dict[bytes, Order] = {b"II": "<", b"MM": ">"}
    order = orders.get(data[:2])
    if order is None or len(data) < 8:
        raise IfdError("not a TIFF stream")
    magic, first = struct.unpack_from(f"{order}HI", data, 2)
    if magic != 42:
        raise IfdError("BigTIFF" if magic == 43 else "not a TIFF stream")
    return order, first


def read_directory(data: bytes, order: Order, offset: int, depth: int = 2) -> tuple[Directory, int]:
    """The directory at `offset` with those it points to, and the place of the next one, or 0.

    `depth` is how far pointers are followed: two levels hold EXIF and what stands in it, none
    gives the directory's own tags. Raises IfdError where something lies outside `data`.
    """
    directory, room = Directory(), len(data)
    places = entry_places(data, order, offset)
    for place in places:
        tag, kind, count = struct.unpack_from(f"{order}HHI", data, place)
        if kind not in _BYTES:
            continue  # readers shall skip fields of a type they do not know
        entry = Entry(kind, count, _read_value(data, order, place, kind, count))
        room -= len(entry.data)
        if room < 0:  # one place shown again and again would fill the memory
            raise IfdError("values that together are larger than the file")
        directory.entries[tag] = entry
    for tag in [tag for tag in _POINTERS if tag in directory.entries]:
        child = directory.entries.pop(tag).ints()
        if depth and child:
            directory.children[tag], _ = read_directory(data, order, child[0], depth - 1)
    after = offset + 2 + 12 * len(places)
    follows = struct.unpack_from(f"{order}I", data, after)[0] if after + 4 <= len(data) else 0
    return directory, follows


def entry_places(data: bytes, order: Order, offset: int) -> list[int]:
    """Where in `data` each 12-byte entry of the directory at `offset` stands."""
    if offset < 8 or offset + 2 > len(data):
        raise IfdError(f"a directory at byte {offset} of {len(data)}")
    count = struct.unpack_from(f"{order}H", data, offset)[0]
    if offset + 2 + 12 * count > len(data):
        raise IfdError(f"a directory of {count} tags at byte {offset} of {len(data)}")
    return [offset + 2 + 12 * i for i in range(count)]


def build(directory: Directory, base: int, order: Order = "<") -> bytes:
    """The bytes of `directory` and its children for a place `base` bytes into the stream."""
    tags = sorted({*directory.entries, *directory.children})
    head = struct.pack(f"{order}H", len(tags))
    tail = bytearray()
    for tag in tags:
        place = base + 2 + 12 * len(tags) + 4 + len(tail)
        if tag in directory.children:
            head += struct.pack(f"{order}HHII", tag, LONG, 1, place)
            tail += build(directory.children[tag], place, order)
        else:
            entry = directory.entries[tag]
            value = entry.ordered(order)
            head += struct.pack(f"{order}HHI", tag, entry.kind, entry.count)
            head += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}I", place)
            tail += value if len(value) > 4 else b""
        tail += b"\0" * (len(tail) % 2)
    return head + struct.pack(f"{order}I", 0) + bytes(tail)


def stream(directory: Directory) -> bytes:
    """A whole TIFF stream of `directory` alone: what an EXIF block is."""
    return struct.pack("<2sHI", b"II", 42, 8) + build(directory, 8)


def _read_value(data: bytes, order: Order, place: int, kind: int, count: int) -> bytes:
    size = _BYTES[kind] * count
    start = place + 8 if size <= 4 else struct.unpack_from(f"{order}I", data, place + 8)[0]
    if start + size > len(data):
        raise IfdError(f"a value of {size} bytes at byte {start} of {len(data)}")
    value = data[start : start + size]
    return value if order == "<" else _turned(value, kind)


def _turned(data: bytes, kind: int) -> bytes:
    """`data` with the bytes of each word in the other order."""
    word = _WORD.get(kind, 1)
    return np.frombuffer(data, np.uint8).reshape(-1, word)[:, ::-1].tobytes()
