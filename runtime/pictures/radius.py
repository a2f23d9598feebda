"""Maps of blur radii as files: 16-bit grey, the radius in pixels times MAP_UNITS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError
from allfocus.runtime.pictures.image import MAX_PIXELS, read_image
from allfocus.runtime.pictures.metadata import orientation, stored

MAP_UNITS = 256  # steps a pixel of blur radius
WIDEST = 64.0  # pixels: no model undoes more, and a map of larger radii is in some other unit

_EXPECTED = f"expected 16-bit grey, the blur radius in pixels times {MAP_UNITS}, as --map writes it"


def coded(radius: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Radii in pixels as they are written."""
    return np.asarray(np.clip(np.rint(radius * MAP_UNITS), 0, 65535), np.uint16)


def too_wide(most: float) -> str:
    """What to do about a map that reaches `most` pixels."""
    return (
        f"this one reaches {most:.0f} pixels, where {WIDEST:g} is the most that any model undoes; "
        f"divide what is read from a map file by {MAP_UNITS}, scale a map of other units, or limit "
        f"it to {WIDEST:g} where the blur is really wider"
    )


def read_radius(path: Path, turned: int, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """The radii in pixels, float32 [H, W], laid as a picture of the EXIF orientation `turned` is
    stored; a map without such a label is taken to be upright.

    Raises InputError for what is no such map.
    """
    picture = read_image(path, max_pixels=max_pixels)
    pixels, own = picture.pixels, orientation(picture.metadata)
    if pixels.ndim != 2 or pixels.dtype != np.uint16:
        raise InputError(f"{path}: {_EXPECTED}, got {pixels.dtype} {list(pixels.shape)}")
    if own not in (1, turned):
        raise InputError(
            f"{path}: turned otherwise than its picture (EXIF orientation {own}, and {turned} of "
            "the picture): save it upright"
        )
    laid = pixels if own == turned else stored(pixels, turned)
    radius = np.asarray(laid / np.float32(MAP_UNITS), np.float32)
    if radius.max() > WIDEST:
        raise InputError(f"{path}: {_EXPECTED}: {too_wide(float(radius.max()))}")
    return radius
