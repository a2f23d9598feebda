"""Blur radii that a caller knows, in place of those a model would estimate."""

from __future__ import annotations

from typing import Any

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pictures.radius import WIDEST, too_wide
from allfocus.runtime.spec import Size

_TAKES = ("image", "defocus")  # what goes into a deblurrer that needs nothing else
_EXPECTED = "defocus: expected the blur radius in pixels, numbers [H, W]"
_RESIZE = "enlarge or reduce it, and where it was made for another size, its radii with it"
_TURNED = (
    "it looks turned by a quarter: turn it back, or give its file the EXIF orientation of the "
    "picture's, and where it was made of dual-pixel views, theirs"
)


def guidable(name: str) -> bool:
    """Whether the model `name` can deblur under a map from outside."""
    known = MODELS.get(name)
    restore = None if known is None else known.signatures.get("restore")
    return restore is not None and tuple(restore.inputs) == _TAKES


def check_guided(model: Backend, *, phased: bool) -> None:
    """Raise UsageError where `model` cannot go by a map from outside."""
    name = model.spec.name
    if not guidable(name):
        able = ", ".join(each for each in MODELS if guidable(each))
        raise UsageError(f"defocus: {name} takes no map from outside; these do: {able}")
    if not phased:
        raise UsageError(
            f"defocus: {model.artefact.name} estimates the map in the same graph, and there are no "
            f"files of its phases beside it; `allfocus export --model {name} --phase all` makes "
            "all three"
        )


def checked_map(defocus: Any, size: Size) -> Array:
    """The radii as float32 [H, W]; raises InputError where they are none of a frame of `size`."""
    if not isinstance(defocus, np.ndarray):
        raise InputError(f"{_EXPECTED}, got {type(defocus).__name__}: make it an array first")
    if isinstance(defocus, np.ma.MaskedArray):
        raise InputError(f"{_EXPECTED}, got a masked array: fill what is masked first")
    if defocus.ndim != 2 or defocus.dtype.kind not in "fiu":
        raise InputError(f"{_EXPECTED}, got {defocus.dtype} {list(defocus.shape)}")
    if defocus.shape != (size.height, size.width):
        raise InputError(
            f"{_EXPECTED} of the frame, {[size.height, size.width]}, got {list(defocus.shape)}: "
            + (_TURNED if defocus.shape == (size.width, size.height) else _RESIZE)
        )
    with np.errstate(over="ignore"):
        radii = np.ascontiguousarray(defocus, np.float32)
    if not np.isfinite(radii).all():
        raise InputError(
            f"{_EXPECTED}, got values that are no numbers (NaN, inf), or beyond all radii: fill "
            "them first"
        )
    if radii.max() > WIDEST:
        raise InputError(f"{_EXPECTED}: {too_wide(float(radii.max()))}")
    if radii.min() < 0:
        raise InputError(
            f"{_EXPECTED} of 0 or more, got {radii.min():g}: of signed radii give np.abs(...)"
        )
    return radii
