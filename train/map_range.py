"""Maps in a range of their own, which as they stand would say that all is in focus.

8 bits with values of 0 to 1, which a picture editor shows as black, or 16 bits with those of 8:
common slips. The former are refused before the work, the latter, which may be meant, are told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2

from allfocus.runtime.errors import InputError
from allfocus.train.camera import Image
from allfocus.train.pairs import Pair, read_map

_LOG = logging.getLogger("allfocus.train")
_WHITE = 255.0
_DARK = 26  # of 255: maps of 8 bits that never get lighter are in some other range
_SHORT = 1.0  # pixels of radius, which 256 stands for: likewise of 16 bits


class Light(NamedTuple):
    """The largest of a map: its share of what a set's largest must be at least, and in words."""

    share: float
    said: str
    bits: int

    @property
    def too_dark(self) -> bool:
        """Whether maps of which this is the lightest are in some other range."""
        return self.share < 1

    @property
    def text(self) -> str:
        """What is wrong with such maps, and what was expected."""
        return (
            f"the maps' largest {self.said}; expected white where the blur is the model's "
            "max_radius, or 16 bits in 1/256 pixel"
        )


def check_range(pairs: Iterable[Pair]) -> None:
    """Raise InputError where no map of all gets light, or warn where they have 16 bits; the first
    that does ends the search.

    What cannot be read is named by whoever reads it.
    """
    found: list[tuple[Light, Path]] = []
    for pair in pairs:
        if pair.defocus is None:
            continue
        try:
            plane = read_map(pair.defocus, _WHITE, pair.white)
        except InputError:
            continue
        found.append((light(plane, pair, bits_of(pair.defocus)), pair.defocus.parent))
        if not found[-1][0].too_dark:
            return
    if not found:
        return
    lightest, folder = max(each for each, _ in found), found[0][1]
    if lightest.bits == 8:
        raise InputError(f"{folder}: {lightest.text}")
    _LOG.warning("%s: %s", folder, lightest.text)


def light(plane: Image, pair: Pair, bits: int) -> Light:
    """Of a pair's map that was read with a radius of 255 for white."""
    largest = float(plane.max() if pair.white == "blurred" else _WHITE - plane.min())
    if bits != 8:
        return Light(largest / _SHORT, f"radius is {largest:.2f} pixels, read from 16 bits", bits)
    return Light(largest / _DARK, f"value is {largest:.0f} of 255", bits)


def bits_of(path: Path) -> int:
    """Of a sample of a picture file; 0 where it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return 8 * image.dtype.itemsize if image is not None else 0
