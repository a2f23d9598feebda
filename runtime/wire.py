"""Protocol buffers as they stand in a file: numbered fields, read and written one message deep.

See protobuf.dev/programming-guides/encoding. It is all that is needed to look into an ONNX file
without the package onnx, which the runtime has not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are in no ONNX file
_FIXED = {_FIXED64: 8, _FIXED32: 4}
_LONGEST = 10  # bytes of a varint


class Field(NamedTuple):
    """One field of a message: a whole number, or bytes (text, a message, a packed list)."""

    number: int
    wire: int
    value: int | bytes

    @property
    def data(self) -> bytes:
        """Its bytes. Raises ValueError where it holds a number."""
        if not isinstance(self.value, bytes):
            raise ValueError(f"field {self.number}: expected bytes, found a number")
        return self.value

    @property
    def text(self) -> str:
        """Its text. Raises ValueError where it is none."""
        return self.data.decode("utf-8")


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message in order. Raises ValueError where it is cut off, or is none."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError(f"byte {position}: a field of number 0")
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield Field(number, wire, value)
            continue
        if wire == _BYTES:
            length, position = _varint(message, position)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise ValueError(f"byte {position}: a field of unknown type {wire}")
        end = position + length
        if end > len(message):
            raise ValueError(f"byte {position}: {end - len(message)} of {length} bytes are missing")
        yield Field(number, wire, bytes(message[position:end]))
        position = end


def message(parts: Iterable[Field]) -> bytes:
    """The message of these fields; inverse of `fields`."""
    return b"".join(_encoded(part) for part in parts)


def holding(number: int, value: str | bytes) -> Field:
    """A field of text or bytes."""
    return Field(number, _BYTES, value.encode() if isinstance(value, str) else value)


def _encoded(field: Field) -> bytes:
    key = _as_varint(field.number << 3 | field.wire)
    if isinstance(field.value, int):
        return key + _as_varint(field.value)
    length = _as_varint(len(field.value)) if field.wire == _BYTES else b""
    return key + length + field.value


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the low ones first, and where it ends."""
    number = 0
    for index, byte in enumerate(message[position : position + _LONGEST]):
        number |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return number, position + index + 1
    raise ValueError(f"byte {position}: a number that does not end")


def _as_varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
