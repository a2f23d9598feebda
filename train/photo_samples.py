"""Sharp photos, generated scenes and photos with a disparity map, blurred on the fly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.memory import format_bytes, installed
from allfocus.train import disparity
from allfocus.train.dead_leaves import draw_leaves
from allfocus.train.graphics import draw_graphics
from allfocus.train.pairs import read_rgb
from allfocus.train.psf import random_aperture
from allfocus.train.skips import Skips
from allfocus.train.synthetic import Image, Recipe, Sample, draw, margin_of, photograph, to_linear

_SOFTEST = 1.8  # times a photo is enlarged at most
_MOST_MEMORY = 0.5  # of what the machine has
_TRIES = 2  # places looked at for a crop; the one with more detail is taken


@dataclass(frozen=True)
class _Place:
    """A square of a picture: its corner and its side, pixels."""

    y: int
    x: int
    span: int

    def cut(self, image: NDArray[Any]) -> NDArray[Any]:
        return image[self.y : self.y + self.span, self.x : self.x + self.span]


class PhotoSamples(Dataset[Sample]):
    """Sharp photos, cropped, changed at random and blurred on the fly.

    Without photos all textures are dead leaves (and drawn graphics). A photo with a disparity map
    beside it (see `disparity`) is blurred by its own depth half of the time. A photo that cannot be
    read is left out with a warning, and counted in `skips`, or else by itself; raises InputError
    where over 1 % are.
    """

    has_map = True
    has_sharp = True

    def __init__(
        self,
        photos: list[Path],
        side: int,
        seed: int,
        recipe: Recipe,
        skips: Skips | None = None,
    ) -> None:
        self.skips = skips or Skips(len(photos))
        self.photos: list[NDArray[np.uint8]] = []
        self.disparities: dict[int, tuple[Image, float]] = {}  # and the range of each
        for index, path in enumerate(photos):
            try:
                self._open(path)
            except InputError as error:
                self.skips.add(index, error)
            _check_memory(self.photos, len(photos))
        self.side, self.seed, self.recipe = side, seed, recipe
        self.has_views = recipe.views
        codes = (np.arange(256) / 255).astype(np.float32)
        self._linear = to_linear(codes)

    def __len__(self) -> int:
        return max(1, len(self.photos))

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        if self.disparities and rng.random() < 0.5 * len(self.disparities) / len(self.photos):
            return self._draw_deep(rng)
        return draw(rng, self._texture, self.side, self.recipe)

    def _open(self, path: Path) -> None:
        photo = read_rgb(path)
        plane = disparity.of_photo(path, photo.shape[:2])
        if plane is not None:
            self.disparities[len(self.photos)] = plane, disparity.span_of(plane)
        self.photos.append(photo)

    def _draw_deep(self, rng: np.random.Generator) -> Sample:
        """A crop of a photo blurred by its own depth."""
        recipe, margin = self.recipe, margin_of(self.recipe)
        side = self.side + 2 * margin
        index = int(rng.choice(list(self.disparities)))
        place = _draw_place(rng, self.photos[index], side)
        picture = self._linear[_scaled(place.cut(self.photos[index]), side)]
        # A crop reduced n times has n times less disparity, but its scale is drawn anyway.
        plane, span = self.disparities[index]
        # Of pixels that become one, the middle's: between near and far there is nothing.
        size = (side, side)
        depth = cv2.resize(place.cut(plane), size, interpolation=cv2.INTER_NEAREST_EXACT)
        largest = max(0.1, recipe.max_radius * rng.random() ** recipe.small_radii)
        layers = disparity.draw_layers(rng, picture, depth.astype(np.float32), largest, span)
        return photograph(rng, layers, random_aperture(rng, recipe.shapes), recipe, margin)

    def _texture(self, rng: np.random.Generator, side: int) -> Image:
        linear = self._linear[self._code(rng, side)]
        tint = rng.uniform(0.85, 1.15, 3).astype(np.float32)
        return turn(rng, linear * tint)

    def _code(self, rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
        """An sRGB texture [side, side, 3] of some kind, its channels permuted at times."""
        leaves = self.recipe.leaves_share if self.photos else 1.0
        if rng.random() < self.recipe.graphics_share:
            code = draw_graphics(rng, side)
        elif leaves and rng.random() < leaves:
            code = draw_leaves(rng, side)
        else:
            code = max((self._crop(rng, side) for _ in range(_TRIES)), key=_detail)
        return code[..., rng.permutation(3)] if rng.random() < 0.3 else code

    def _crop(self, rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
        photo = self.photos[int(rng.integers(len(self.photos)))]
        if self.recipe.soft_share and rng.random() < self.recipe.soft_share:
            place = _draw_place(rng, photo, int(side / rng.uniform(1, _SOFTEST)), 1.0)
        else:
            place = _draw_place(rng, photo, side)
        return _scaled(place.cut(photo), side)


def _check_memory(photos: list[NDArray[np.uint8]], count: int) -> None:
    """They stay in memory: before it is full, say what would fit. Raises UsageError."""
    taken, limit = sum(photo.nbytes for photo in photos), _MOST_MEMORY * installed()
    if taken > limit:
        raise UsageError(
            f"{len(photos)} of {count} photos take {format_bytes(taken)} decoded, and no more than "
            f"{format_bytes(limit)} of this machine's memory are for them; reduce them (training "
            "sees 1 to 2.5 pixels as one), give fewer, or `allfocus data render` some at a time"
        )


def _draw_place(
    rng: np.random.Generator, photo: NDArray[np.uint8], side: int, largest: float = 2.5
) -> _Place:
    """Where to crop: of the crop's size, or up to `largest` times larger, to be reduced."""
    height, width = photo.shape[:2]
    widest = max(1.0, min(largest, min(height, width) / side))
    zoom = float(rng.uniform(1.0, widest)) if rng.random() < 0.6 else 1.0
    span = min(int(side * zoom), height, width)
    y, x = int(rng.integers(height - span + 1)), int(rng.integers(width - span + 1))
    return _Place(y, x, span)


def _scaled(patch: NDArray[Any], side: int) -> NDArray[Any]:
    """A square patch in `side` pixels; enlarged by cubics: by areas, edges would be stairs."""
    if len(patch) == side:
        return patch
    method = cv2.INTER_AREA if len(patch) > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(patch, (side, side), interpolation=method))


def _detail(code: NDArray[np.uint8]) -> float:
    grey = code[..., 1].astype(np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def turn(rng: np.random.Generator, image: Image) -> Image:
    """One of the eight ways to lay a square picture."""
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return np.ascontiguousarray(np.rot90(image, int(rng.integers(4))))
