"""What a model is calibrated on: crops of pictures that are out of focus.

A folder of a camera's own frames, or of samples that `allfocus data render` made of photos. Without
one, generated scenes (dead leaves) blurred as in training, which need no photo; ranges that were
found on photos come with the package's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError

COUNT = 32  # crops
SIDE = 160  # pixels of a crop's side: a multiple of what every net takes
_FLAT = 1.0  # levels of 255: a crop whose deviation is less tells nothing
_SEED = 7

Picture = NDArray[np.uint8]  # RGB [H, W, 3]


@dataclass(frozen=True)
class Crops:
    """float32 RGB [1, 3, side, side] in 0 to 1, and what they are, in words."""

    arrays: tuple[NDArray[np.float32], ...]
    source: str
    side: int = SIDE


def crops_of(folder: Path | None, count: int | None = None, side: int = SIDE) -> Crops:
    """`count` crops of the pictures in `folder`, the same each time; None: of generated scenes.

    Raises InputError for a folder without pictures, with none of at least `side` pixels, or where
    all is flat: ranges found there would cut off what real pictures have.
    """
    from allfocus.train.rendered import find_rendered

    count = COUNT if count is None else count
    if folder is None:
        return Crops(tuple(_generated(count, side)), "generated scenes (dead leaves)", side)
    rendered = find_rendered(folder)
    if rendered:
        chosen = _spread(rendered, count)
        return Crops(tuple(_rendered(chosen, side)), "samples rendered of photos", side)
    return Crops(tuple(_cut(folder, count, side)), "the user's pictures", side)


def _generated(count: int, side: int) -> Iterator[NDArray[np.float32]]:
    from allfocus.train.data import DEAD_LEAVES, find, make_samples
    from allfocus.train.scenes import rich

    samples = make_samples(find(DEAD_LEAVES), side, _SEED, rich(8.0))
    return (_as_input(np.asarray(samples[index].blurry)) for index in range(count))


def _rendered(items: list[Any], side: int) -> Iterator[NDArray[np.float32]]:
    from allfocus.train.rendered import RenderedSamples

    for item in items:
        yield _as_input(np.asarray(RenderedSamples([item], side, _SEED)[0].blurry))


def _cut(folder: Path, count: int, side: int) -> list[NDArray[np.float32]]:
    """Windows of the folder's pictures, several of each where there are few."""
    pictures = list(_large_enough(folder, side))
    rng = np.random.default_rng(_SEED)
    found = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        top, left = (int(rng.integers(length - side + 1)) for length in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        if crop.std() >= _FLAT:
            found.append(_as_input(crop / np.float32(255)))
    if not found:
        raise InputError(
            f"{folder}: its pictures are flat (no crop's levels deviate by {_FLAT:g}), so nothing "
            "can be calibrated on them; give pictures with something in them"
        )
    return found


def _large_enough(folder: Path, side: int) -> Iterator[Picture]:
    from allfocus.train.pairs import list_images, read_rgb

    paths = list_images(folder) if folder.is_dir() else []
    if not paths:
        raise InputError(
            f"{folder}: no pictures to calibrate on; expected a folder of photos as the camera "
            "makes them, or of samples that `allfocus data render` made"
        )
    small: list[str] = []
    for path in _spread(paths, COUNT):
        picture = read_rgb(path)
        if min(picture.shape[:2]) < side:
            small.append(f"{path.name} {picture.shape[1]}x{picture.shape[0]}")
        else:
            yield picture
    if len(small) == len(_spread(paths, COUNT)):
        raise InputError(
            f"{folder}: calibration takes crops of {side}x{side} pixels, and no picture is that "
            f"large ({', '.join(small[:3])}); give larger ones"
        )


def _spread(items: list[Any], count: int) -> list[Any]:
    """At most `count`, evenly."""
    if len(items) <= count:
        return items
    return [items[index * len(items) // count] for index in range(count)]


def _as_input(image: NDArray[Any]) -> NDArray[np.float32]:
    """[H, W, 3] -> [1, 3, H, W], as 8 bits would hold it."""
    levels = np.rint(image * 255).clip(0, 255) / 255
    return np.ascontiguousarray(levels.transpose(2, 0, 1)[None], dtype=np.float32)
