"""The quality that a JPEG was written with, read from its quantisation tables."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

# The example tables of ITU-T T.81, annex K, that nearly every encoder scales by its quality. Only
# their entries are compared, not their order.
_LUMINANCE = bytes.fromhex(
    "100b0a101828333d 0c0c0e131a3a3c37 0e0d101828394538 0e11161d3357503e"
    "12162538446d674d 182337405168715c 31404e5767797865 485c5f6270646763"
)
_CHROMINANCE = bytes.fromhex(
    "1112182f63636363 12151a4263636363 181a386363636363 2f42636363636363" + 32 * "63"
)


def quality_of(bodies: Iterable[bytes]) -> int:
    """The quality, 1 to 100, on libjpeg's scale, of the DQT segments' `bodies`.

    It is the lowest one that quantises no coarser than they do, table by table and on average.
    """
    tables = [table for body in bodies for table in _tables(body)]
    for quality in range(1, 100):
        if all(sum(_scaled(base, quality)) <= sum(table) for base, table in tables):
            return quality
    return 100


def _tables(body: bytes) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """Each table of a segment with the example it descends from; what is cut short is left out."""
    place = 0
    while place < len(body):
        wide, number = body[place] >> 4, body[place] & 15
        entries = ">64H" if wide else ">64B"
        if place + 1 + struct.calcsize(entries) > len(body):
            return
        base = _CHROMINANCE if number else _LUMINANCE
        yield base, struct.unpack_from(entries, body, place + 1)
        place += 1 + struct.calcsize(entries)


def _scaled(base: bytes, quality: int) -> list[int]:
    """libjpeg's table for a quality."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [min(255, max(1, (entry * scale + 50) // 100)) for entry in base]
