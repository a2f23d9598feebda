"""Crops of the pairs of a data set on disk."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from allfocus.runtime.errors import InputError
from allfocus.train.decoded import Decoded
from allfocus.train.pairs import Pair, White, check_sizes, read_map, read_rgb, sharp_in_mask
from allfocus.train.photo_samples import turn
from allfocus.train.skips import Skips
from allfocus.train.synthetic import Image, Sample

_Planes = list[NDArray[Any]]
_ATTEMPTS = 20  # pairs looked at in place of one that cannot be read
_ENLARGED = 2  # times as large as a picture a crop may be: its rest is mirrored


class PairSamples(Dataset[Sample]):
    """Blurry and sharp pictures of the same scenes, with or without maps and dual-pixel views.

    Data sets for detection have no sharp pictures: `has_sharp` is False, `sharp` the blurry one. A
    pair that cannot be read is left out with a warning, and counted in `skips`, or else by itself;
    raises InputError where over 1 % are. Without `views` those that are there are not read.
    `decoded` keeps what was read. Crops are mirrored, turned and get other colours, unless `varied`
    is False: what is judged stays as it is in the files.

    A picture that is smaller than the crop is mirrored at its borders; not under half of it, nor
    one with views: a mirrored scene lies on the other side of the focus.
    """

    def __init__(
        self,
        pairs: list[Pair],
        side: int,
        seed: int,
        max_radius: float,
        skips: Skips | None = None,
        *,
        views: bool = True,
        decoded: Decoded | None = None,
        varied: bool = True,
    ) -> None:
        self.pairs, self.side, self.seed, self.max_radius = pairs, side, seed, max_radius
        self.has_map = all(p.defocus is not None for p in pairs)
        self.has_sharp = all(p.sharp is not None for p in pairs)
        self.has_views = views and all(p.left and p.right for p in pairs)
        self.skips = skips or Skips(len(pairs))
        self._decoded, self._varied = decoded or Decoded(), varied

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        planes = [_grown(plane, self.side) for plane in self._read_any(rng)]
        height, width = planes[-1].shape
        y = int(rng.integers(height - self.side + 1))
        x = int(rng.integers(width - self.side + 1))
        crop = _stacked([p[y : y + self.side, x : x + self.side] for p in planes])
        if self._varied:
            crop = self._vary(rng, crop)
        images = [crop[..., i : i + 3] for i in range(0, crop.shape[2] - 1, 3)]
        return Sample(images[0], images[1], crop[..., -1], *images[2:])

    def _vary(self, rng: np.random.Generator, crop: Image) -> Image:
        crop = mirror(rng, crop) if self.has_views else turn(rng, crop)
        # "Colour change" of DID-ANet's paper; the others say nothing of it, and get it too.
        gain = np.ones(crop.shape[2], np.float32)
        gain[:-1] = np.tile(rng.uniform(0.8, 1.1, 3), (crop.shape[2] - 1) // 3)
        varied = crop * gain
        return np.concatenate((np.clip(varied[..., :-1], 0, 1), varied[..., -1:]), axis=2)

    def read_all(self) -> None:
        """Read every pair once, so that those that cannot be read are told now."""
        for number in range(len(self.pairs)):
            self._try(number)

    def _read_any(self, rng: np.random.Generator) -> _Planes:
        """A pair drawn at random that can be read."""
        for _ in range(_ATTEMPTS):
            planes = self._try(int(rng.integers(len(self.pairs))))
            if planes is not None:
                return planes
        raise InputError(f"none of {_ATTEMPTS} pairs could be read; see the warnings above")

    def _try(self, number: int) -> _Planes | None:
        """As `_read`; None for a pair that cannot be read, which is left out."""
        try:
            return self._read(self.pairs[number])
        except InputError as error:
            self.skips.add(number, error)
            return None

    def _read(self, pair: Pair) -> _Planes:
        """[H, W, 3]: blurry, sharp and, where there are some, the views; at last radii [H, W].

        As they are in the files: only a crop of them is worth converting.
        """
        views = (pair.left, pair.right) if self.has_views else ()
        pictures = [path for path in (pair.blurry, pair.sharp or pair.blurry, *views) if path]
        read = {path: self._picture(path) for path in dict.fromkeys(pictures)}
        planes = [read[path] for path in pictures]
        size = planes[0].shape[:2]
        radius = np.zeros(size, np.float32)
        if pair.defocus is not None:
            radius = read[pair.defocus] = self._map(pair.defocus, pair.white)
            if pair.sharp is None:  # a mask
                sharp = sharp_in_mask(radius, self.max_radius)
                radius = np.where(sharp, 0, self.max_radius).astype(np.float32)
        check_sizes(read)
        least = self.side if self.has_views else -(-self.side // _ENLARGED)
        if min(size) < least:
            raise InputError(
                f"{pair.blurry}: {size[1]}x{size[0]} pixels, and a crop of {self.side} takes at "
                f"least {least} on each side; use a smaller --crop"
            )
        return [*planes, radius]

    def _picture(self, path: Path) -> NDArray[Any]:
        return self._decoded.read(path, partial(read_rgb, path))

    def _map(self, path: Path, white: White) -> NDArray[Any]:
        read = partial(read_map, path, self.max_radius, white)
        return self._decoded.read(path, read, f"upright map, {self.max_radius} at {white}")


def _grown(plane: NDArray[Any], side: int) -> NDArray[Any]:
    """[H, W, ...] of at least `side` pixels each way, mirrored beyond its borders."""
    missing = [max(0, side - length) for length in plane.shape[:2]]
    if not any(missing):
        return plane
    beyond = [(total // 2, total - total // 2) for total in missing]
    return np.pad(plane, beyond + [(0, 0)] * (plane.ndim - 2), mode="reflect")


def _stacked(planes: _Planes) -> Image:
    """Codes of 8 bits [H, W, 3] each, and radii [H, W], as one float32 [H, W, 7 or 13]."""
    codes = np.concatenate(planes[:-1], axis=2).astype(np.float32) / 255
    return np.concatenate((codes, planes[-1][..., None]), axis=2)


def mirror(rng: np.random.Generator, crop: Image) -> Image:
    """Turned over at times: blurry, sharp, left, right, and what follows.

    Left and right views change places in a mirror; no turn leaves them so.

    A quarter turn would make a view's shift vertical, which no such sensor gives.
    """
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
        crop = crop[..., [*range(6), *range(9, 12), *range(6, 9), *range(12, crop.shape[2])]]
    return np.ascontiguousarray(crop[::-1] if rng.random() < 0.5 else crop)
