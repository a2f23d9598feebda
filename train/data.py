"""Where training samples come from: sharp photos blurred on the fly, or pairs in a folder.

A sample is a function of (seed, index) alone, so that a resumed run sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from allfocus.runtime.errors import InputError
from allfocus.train.graphics import draw_graphics
from allfocus.train.synthetic import Image, Recipe, Sample, draw, to_linear

EXTENSIONS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}
_TRIES = 2  # places looked at for a crop; the one with more detail is taken

LAYOUT = (
    "expected either sharp photos in one folder (they are blurred on the fly), or pairs: "
    "`image/` or `blurry/` with the blurry pictures, `sharp/` with the sharp ones, and optionally "
    "`filtered/` or `defocus/` with the maps; in all of them files sort into the same order"
)


@dataclass(frozen=True)
class Batch:
    """blurry, sharp [N, 3, H, W] in [0, 1]; defocus [N, 1, H, W], 1 at the model's max_radius.

    `has_map` is False where the data set has no maps; `defocus` is then zero.
    """

    blurry: Tensor
    sharp: Tensor
    defocus: Tensor
    has_map: bool
    left: Tensor | None = None  # dual-pixel views, as blurry
    right: Tensor | None = None
    moved: Tensor | None = None  # the sharp pictures slightly displaced


def list_images(folder: Path) -> list[Path]:
    """The pictures directly in `folder`, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 RGB [H, W, 3]; raises InputError where it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path}: not a picture that OpenCV can read; repair or remove it")
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8, copy=False)


class PhotoSamples(Dataset[Sample]):
    """Sharp photos, cropped, changed at random and blurred on the fly."""

    has_map = True

    def __init__(self, photos: list[Path], side: int, seed: int, recipe: Recipe) -> None:
        self.photos = [read_rgb(p) for p in photos]
        self.side, self.seed, self.recipe = side, seed, recipe
        codes = (np.arange(256) / 255).astype(np.float32)
        self._linear = to_linear(codes)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        return draw(rng, self._texture, self.side, self.recipe)

    def _texture(self, rng: np.random.Generator, side: int) -> Image:
        if rng.random() < self.recipe.graphics_share:
            code = draw_graphics(rng, side)
        else:
            code = max((self._crop(rng, side) for _ in range(_TRIES)), key=_detail)
        if rng.random() < 0.3:
            code = code[..., rng.permutation(3)]
        linear = self._linear[code]
        tint = rng.uniform(0.85, 1.15, 3).astype(np.float32)
        return _turn(rng, linear * tint)

    def _crop(self, rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
        photo = self.photos[int(rng.integers(len(self.photos)))]
        height, width = photo.shape[:2]
        widest = max(1.0, min(2.5, min(height, width) / side))
        zoom = float(rng.uniform(1.0, widest)) if rng.random() < 0.6 else 1.0
        span = min(int(side * zoom), height, width)
        y, x = int(rng.integers(height - span + 1)), int(rng.integers(width - span + 1))
        patch = photo[y : y + span, x : x + span]
        if span == side:
            return patch
        return cv2.resize(patch, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _detail(code: NDArray[np.uint8]) -> float:
    grey = code[..., 1].astype(np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


def _turn(rng: np.random.Generator, image: Image) -> Image:
    if rng.random() < 0.5:
        image = image[:, ::-1]
    return np.ascontiguousarray(np.rot90(image, int(rng.integers(4))))


@dataclass(frozen=True)
class Pair:
    """Files of one pair; `defocus` is None where the data set has no maps."""

    blurry: Path
    sharp: Path
    defocus: Path | None


class PairSamples(Dataset[Sample]):
    """Blurry and sharp pictures of the same scenes, with or without maps (white = blurred)."""

    def __init__(self, pairs: list[Pair], side: int, seed: int, max_radius: float) -> None:
        self.pairs, self.side, self.seed, self.max_radius = pairs, side, seed, max_radius
        self.has_map = all(p.defocus is not None for p in pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        pair = self.pairs[int(rng.integers(len(self.pairs)))]
        blurry, sharp = read_rgb(pair.blurry), read_rgb(pair.sharp)
        defocus = read_rgb(pair.defocus) if pair.defocus else np.zeros_like(sharp)
        _check_pair(pair, [blurry, sharp, defocus], self.side)
        stack = np.concatenate((blurry, sharp, defocus[..., :1]), axis=2).astype(np.float32)
        stack /= 255
        y = int(rng.integers(stack.shape[0] - self.side + 1))
        x = int(rng.integers(stack.shape[1] - self.side + 1))
        crop = _turn(rng, stack[y : y + self.side, x : x + self.side])
        gain = rng.uniform(0.8, 1.1, 3).astype(np.float32)  # "colour change" of the paper
        images = [np.clip(crop[..., i : i + 3] * gain, 0, 1) for i in (0, 3)]
        return Sample(images[0], images[1], crop[..., 6] * self.max_radius)


def _check_pair(pair: Pair, images: list[NDArray[np.uint8]], side: int) -> None:
    sizes = {image.shape[:2] for image in images}
    if len(sizes) > 1:
        raise InputError(
            f"{pair.blurry.name}, {pair.sharp.name}: sizes differ ({sorted(sizes)}); a pair's "
            "pictures and map must have the same size"
        )
    if min(min(size) for size in sizes) < side:
        raise InputError(f"{pair.blurry}: smaller than the crop of {side}; use a smaller --crop")


def find_pairs(folder: Path) -> list[Pair]:
    """Pairs of a folder in the layout of `LAYOUT`; empty where it has none."""
    blurry, sharp = _first(folder, "image", "blurry"), _first(folder, "sharp")
    if not blurry or not sharp:
        return []
    maps: list[Path | None] = list(_first(folder, "filtered", "defocus")) or [None] * len(blurry)
    if not len(blurry) == len(sharp) == len(maps):
        raise InputError(
            f"{folder}: {len(blurry)} blurry, {len(sharp)} sharp pictures, {len(maps)} maps; each "
            "blurry picture needs one of each"
        )
    return [Pair(*row) for row in zip(blurry, sharp, maps, strict=True)]


def _first(folder: Path, *names: str) -> list[Path]:
    for name in names:
        if (folder / name).is_dir():
            return list_images(folder / name)
    return []


Samples = PhotoSamples | PairSamples
Items = list[Path] | list[Pair]


def find(folder: Path) -> Items:
    """The pairs or the photos of `folder`; raises InputError, naming the layouts, without any."""
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; {LAYOUT}")
    items: Items = find_pairs(folder) or list_images(folder)
    if not items:
        raise InputError(f"{folder}: no pictures in it; {LAYOUT}")
    return items


def hold_out(items: Items, every: int = 10) -> tuple[Items, Items]:
    """(to train on, to validate on): every tenth photo or pair, the first among them, is kept back.

    Raises InputError where there are fewer than two.
    """
    if len(items) < 2:
        raise InputError("one picture cannot be both trained and validated on; give more, or --val")
    kept = [item for index, item in enumerate(items) if index % every]
    return kept, items[::every]  # type: ignore[return-value]


def make_samples(items: Items, side: int, seed: int, recipe: Recipe) -> Samples:
    """Crops of `side` pixels from photos (blurred by `recipe`) or from pairs."""
    pairs = [item for item in items if isinstance(item, Pair)]
    if pairs:
        return PairSamples(pairs, side, seed, recipe.max_radius)
    return PhotoSamples([i for i in items if isinstance(i, Path)], side, seed, recipe)


def batches(
    samples: Samples, *, start: int, stop: int, batch: int, max_radius: float, workers: int
) -> Iterator[Batch]:
    """Batches of the steps `start` up to `stop`; step k holds the samples k*batch ... ."""
    dataset: Dataset[Sample] = samples
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_size=batch,
        sampler=range(start * batch, stop * batch),
        num_workers=workers,
        collate_fn=_Collate(max_radius, samples.has_map),
        worker_init_fn=_one_thread,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


@dataclass(frozen=True)
class _Collate:
    max_radius: float
    has_map: bool

    def __call__(self, samples: list[Sample]) -> Batch:
        radius = _stack([s.radius[..., None] for s in samples])
        return Batch(
            _stack([s.blurry for s in samples]),
            _stack([s.sharp for s in samples]),
            (radius / self.max_radius).clamp(0, 1),
            self.has_map,
            *(_stack_if_any([getattr(s, n) for s in samples]) for n in ("left", "right", "moved")),
        )


def _stack(images: list[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _stack_if_any(images: list[Image | None]) -> Tensor | None:
    given = [image for image in images if image is not None]
    return _stack(given) if given else None


def _one_thread(_: int) -> None:
    cv2.setNumThreads(1)  # workers are the parallelism; more threads fight with the training step
