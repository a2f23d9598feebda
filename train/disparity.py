"""Photos with a true depth: a disparity map beside them. They are cut into layers and blurred.

Disparity is in any linear unit, larger nearer, as stereo gives it: a thin lens's radius is linear
in inverse depth (see `thin_lens`), so it is linear in disparity too.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from allfocus.runtime.errors import InputError
from allfocus.train.camera import Image
from allfocus.train.render import Layer

SUFFIXES = (".npy", ".pfm")
_STEP = 0.5  # pixels of radius from one layer to the next
_LEAST_SHARE = 0.1  # of a photo's range of disparity: a crop's range counts as at least so much


def companion(photo: Path) -> Path | None:
    """The disparity map of a photo: a file of its name, .npy or .pfm."""
    return next((p for s in SUFFIXES if (p := photo.with_suffix(s)).is_file()), None)


def of_photo(photo: Path, size: tuple[int, ...]) -> Image | None:
    """The disparity of a photo of `size` (height, width); None where there is no map of it.

    Raises InputError where the map cannot be read or is of another size.
    """
    path = companion(photo)
    if path is None:
        return None
    plane = read_disparity(path)
    if plane.shape != size:
        raise InputError(
            f"{path}: {list(plane.shape)} values for a picture of {list(size)}; a disparity map "
            "has its picture's size"
        )
    return plane


def read_disparity(path: Path) -> Image:
    """Disparity [H, W]; unknown values (not finite) are those of the nearest known pixel.

    Raises InputError where it cannot be read, is no plane, or holds nothing known.
    """
    try:
        loaded = _load(path) if path.suffix == ".npy" else cv2.imread(str(path), -1)
    except (OSError, ValueError, cv2.error) as error:
        raise InputError(f"{path}: not a disparity map that can be read: {error}") from None
    if loaded is None or loaded.ndim != 2 or loaded.dtype.kind not in "fiu":
        got = "nothing readable" if loaded is None else f"{loaded.dtype} {list(loaded.shape)}"
        raise InputError(f"{path}: expected disparity [H, W], larger nearer, got {got}")
    plane = loaded.astype(np.float32)
    known = np.isfinite(plane)
    if not known.any():
        raise InputError(f"{path}: no finite disparity in it; remove it or compute it anew")
    return fill(plane, known)


def _load(path: Path) -> np.ndarray[Any, Any]:
    """The array of a .npy; unlike np.load, a ValueError for all that is none, empty files too."""
    with path.open("rb") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def fill(plane: Image, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Image:
    """`plane` [H, W] or [H, W, C] with what is not `known` [H, W] taken from the nearest known."""
    if known.all():
        return plane
    _, labels = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(labels.max()) + 1, np.intp)
    owner[labels[known]] = np.flatnonzero(known)
    flat = plane.reshape(known.size, -1)
    return np.asarray(flat[owner[labels]].reshape(plane.shape), np.float32)


def layers_of(picture: Image, disparity: Image, focus: float, strength: float) -> list[Layer]:
    """A picture, linear [H, W, 3], as layers, back to front, of radii half a pixel apart: of 0.25
    pixels, which blur nothing, 0.75, and so on. None is of half a pixel, where focus ends: that
    blurs nothing either, and would not count as in focus.

    The radius is strength * (focus - disparity) pixels: above 0 behind what is in focus. A layer
    covers all that is as near as it or nearer, and goes on behind what is nearer with the colours
    at its edge: so nothing shows through where a nearer layer's blurred edge is thin, and with all
    radii 0 there is one, the picture.
    """
    if strength == 0:
        plane = np.zeros(disparity.shape, np.float32)
        return [Layer(picture, np.ones_like(plane), plane)]
    places = strength * (disparity - focus) / _STEP  # larger nearer
    steps = np.minimum(np.floor(places), np.ceil(places.max()) - 1).astype(np.int32)
    layers = []
    for step in np.unique(steps):
        here = steps == step
        coverage = (steps >= step).astype(np.float32)
        radius = np.full(steps.shape, -(step + 0.5) * _STEP, np.float32)
        layers.append(Layer(fill(picture, here), coverage, radius))
    return layers


def span_of(disparity: Image) -> float:
    """From the far to the near of a photo, but for a hundredth at each end, which may be errors."""
    far, near = np.percentile(disparity, (1, 99))
    return float(near - far)


def draw_layers(
    rng: np.random.Generator, picture: Image, disparity: Image, largest: float, span: float
) -> list[Layer]:
    """Layers of a crop, focused somewhere in its range of depths, of radii up to `largest`.

    `span` is the whole photo's range: a crop of one surface, whose range is that of the disparity's
    errors, would else be blurred by these as by depth.
    """
    near, far = float(disparity.max()), float(disparity.min())
    focus = rng.uniform(far, near)
    widest = max(near - focus, focus - far, _LEAST_SHARE * span)
    strength = 0.0 if math.isclose(near, far) else largest / widest
    return layers_of(picture, disparity, focus, strength)
