"""Masks of what is in focus: how they are told from pictures, and what white means in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from allfocus.runtime.errors import InputError
from allfocus.train.pairs import Pair, read_rgb

_LOOKED_AT = 12  # files of a data set, evenly spread
_NEAR = 32  # of 255: as far as a JPEG's values lie from black and white ...
_SHARE = 0.98  # ... but for those at the edges
_COLOUR = 2.0  # of 255, mean: as much as a JPEG adds to grey
T = TypeVar("T")


def are_masks(files: Sequence[Path]) -> bool:
    """Whether these are black-and-white, as no photos are."""
    seen = [told for path in _spread(files) if (told := _is_mask(path)) is not None]
    return bool(seen) and all(seen)


def white_is_sharp(pairs: Sequence[Pair]) -> bool:
    """Whether there is more detail where the masks are white."""
    votes = 0
    for pair in _spread(pairs):
        try:
            grey = read_rgb(pair.blurry)[..., 1].astype(np.float32)
            mask = read_rgb(pair.defocus or pair.blurry)[..., 0] > 127
        except InputError:
            continue  # it is named when all are read
        if mask.shape == grey.shape and 0 < mask.mean() < 1:
            detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
            votes += 1 if detail[mask].mean() > detail[~mask].mean() else -1
    return votes >= 0


def _is_mask(path: Path) -> bool | None:
    """Whether a picture is grey and of two values; None where it cannot be read or is all alike."""
    try:
        picture = read_rgb(path)
    except InputError:
        return None  # it is named when all are read
    if np.ptp(picture, axis=2).mean() > _COLOUR:
        return False
    counts = np.bincount(picture[..., 1].ravel(), minlength=256)
    values = np.flatnonzero(counts)
    if len(values) < 2:
        return None
    black, white = counts[:_NEAR].sum(), counts[-_NEAR:].sum()
    two_ends = black > 0 < white and black + white > _SHARE * counts.sum()
    return len(values) == 2 or bool(two_ends)


def _spread(items: Sequence[T]) -> Sequence[T]:
    return items[:: max(1, len(items) // _LOOKED_AT)][:_LOOKED_AT]
