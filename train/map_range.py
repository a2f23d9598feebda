"""Maps of 8 bits with values of 0 to 1, which a picture editor shows as black: a common slip.

Taken as they stand they would say that all is in focus, so they are refused before the work.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2

from allfocus.runtime.errors import InputError
from allfocus.train.camera import Image
from allfocus.train.pairs import Pair, read_map

_WHITE = 255.0
_DARK = 26  # of 255: maps that never get lighter are in some other range


def check_range(pairs: Iterable[Pair]) -> None:
    """Raise InputError where no map of all gets light; the first that does ends the search.

    What cannot be read is named by whoever reads it.
    """
    lightest, first = -1.0, None
    for pair in pairs:
        if pair.defocus is None:
            continue
        first = first or pair.defocus
        try:
            plane = read_map(pair.defocus, _WHITE, pair.white)
        except InputError:
            return
        lightest = max(lightest, light(plane, pair, bits_of(pair.defocus)))
        if not too_dark(lightest):
            return
    if first is not None:
        raise InputError(f"{first.parent}: {dark_text(lightest)}")


def light(plane: Image, pair: Pair, bits: int) -> float:
    """The lightest value, of 255, of a pair's map that was read with a radius of 255 for white;
    255 for one of 16 bits, whose unit is known.
    """
    if bits != 8:
        return _WHITE
    return float(plane.max() if pair.white == "blurred" else _WHITE - plane.min())


def too_dark(lightest: float) -> bool:
    """Whether maps whose lightest value is this one, of 255, are in some other range."""
    return 0 <= lightest < _DARK


def dark_text(lightest: float) -> str:
    """What is wrong with them, and what was expected."""
    return (
        f"the maps' largest value is {lightest:.0f} of 255; expected white where the blur is the "
        "model's max_radius, or 16 bits in 1/256 pixel"
    )


def bits_of(path: Path) -> int:
    """Of a sample of a picture file; 0 where it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return 8 * image.dtype.itemsize if image is not None else 0
