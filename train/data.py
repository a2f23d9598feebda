"""Where training samples come from: sharp photos blurred on the fly, pairs in a folder, or nothing.

A sample is a function of (seed, index) alone, so that a resumed run sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from allfocus.runtime.errors import InputError
from allfocus.train.datasets import LAYOUTS, Found, Use, recognise
from allfocus.train.decoded import Decoded
from allfocus.train.pair_samples import PairSamples
from allfocus.train.pairs import Pair, list_images, read_rgb
from allfocus.train.photo_samples import PhotoSamples
from allfocus.train.rendered import Rendered, RenderedSamples, find_rendered
from allfocus.train.skips import Skips
from allfocus.train.synthetic import Image, Recipe, Sample
from allfocus.train.tint import Tinted
from allfocus.train.workers import loader

__all__ = [
    "Batch",
    "Items",
    "Pair",
    "PairSamples",
    "PhotoSamples",
    "Samples",
    "batches",
    "find",
    "hold_out",
    "list_images",
    "make_samples",
    "read_rgb",
]

DEAD_LEAVES = Path("dead-leaves")  # in place of a folder: scenes are generated, no photo is needed
_GENERATED = 100  # such scenes count as so many photos where some are held out

LAYOUT = (
    "expected sharp photos in one folder (they are blurred on the fly; with a disparity map "
    "NAME.npy or NAME.pfm, by their own depth), `dead-leaves` (no photos), or pairs: `blurry/` "
    "with the blurry pictures, `sharp/` with the sharp ones, and optionally `defocus/` with the "
    "maps; or a data set as it is published:\n"
    + "\n".join(f"  {layout.name}: {layout.shape}" for layout in LAYOUTS)
)


@dataclass(frozen=True)
class Batch:
    """blurry, sharp [N, 3, H, W] in [0, 1]; defocus [N, 1, H, W], 1 at the model's max_radius.

    `has_map` is False where the data set has no maps; `defocus` is then zero. `left` and `right`,
    the dual-pixel views, and `moved`, a sharp picture that does not lie over the blurry one, are as
    `blurry`, and None where the data has none. `seen` is as `defocus`, of the radius by which a
    pixel is in focus or not (see `Sample`); None where the data knows no other than `defocus`.
    """

    blurry: Tensor
    sharp: Tensor
    defocus: Tensor
    has_map: bool
    left: Tensor | None = None
    right: Tensor | None = None
    moved: Tensor | None = None
    seen: Tensor | None = None


Samples = PhotoSamples | PairSamples | RenderedSamples
Items = list[Path] | list[Pair] | list[Rendered]


def find(folder: Path, use: Use = "train") -> Items:
    """The pairs of a data set that are for `use`, or the photos of `folder`.

    `dead-leaves`, where no such folder is, stands for generated scenes. Raises InputError, naming
    the layouts, where there is nothing, and where there are only pairs to judge on and `use` is
    "train".
    """
    return _look(folder, use)[0]


def find_with_validation(folder: Path) -> tuple[Items, list[Pair]]:
    """What `find` gives to train on, and the pairs that the data set itself sets apart to validate
    on; none of the latter where it has no such.
    """
    items, found = _look(folder, "train")
    return items, found.splits.get("val", []) if found else []


def _look(folder: Path, use: Use) -> tuple[Items, Found | None]:
    """See `find`; and the data set that the items are of, if they are of one."""
    if folder == DEAD_LEAVES and not folder.exists():
        return [DEAD_LEAVES] * _GENERATED, None
    if not folder.is_dir():
        raise InputError(f"{folder}: not a folder; {LAYOUT}")
    rendered = find_rendered(folder)
    if rendered:
        return rendered, None
    found = recognise(folder)
    if found and not found.split_for(use):
        raise InputError(
            f"{folder}: {found.name}, but only its {', '.join(found.splits)} part, which is for "
            "judging. Expected its train part too; to train on these all the same, give them as "
            "pairs without splits, in `blurry/` and `sharp/`"
        )
    items: Items = found.pairs(use) if found else list_images(folder)
    if not items:
        raise InputError(f"{folder}: no pictures in it; {LAYOUT}")
    return items, found


def hold_out(items: Items, every: int = 10) -> tuple[Items, Items]:
    """(to train on, to validate on): every tenth photo or pair, the first among them, is kept back.

    Raises InputError where there are fewer than two.
    """
    if len(items) < 2:
        raise InputError("one picture cannot be both trained and validated on; give more, or --val")
    kept = [item for index, item in enumerate(items) if index % every]
    return kept, items[::every]  # type: ignore[return-value]


def make_samples(
    items: Items,
    side: int,
    seed: int,
    recipe: Recipe,
    *,
    white: float | None = None,
    skips: Skips | None = None,
    decoded: Decoded | None = None,
    varied: bool = True,
) -> Samples:
    """Crops of `side` pixels from photos (blurred by `recipe`) or from pairs, which stay as they
    are in their files where they are not to be `varied`.

    White in a pair's map of 8 bits is `white` pixels, the recipe's `max_radius` where none is
    given. Pairs have dual-pixel views only where the recipe has, and are kept in `decoded`. What
    cannot be read is counted in `skips`, or by itself.
    """
    rendered = [item for item in items if isinstance(item, Rendered)]
    if rendered:
        return RenderedSamples(rendered, side, seed, views=recipe.views)
    pairs = [item for item in items if isinstance(item, Pair)]
    if pairs:
        radius = white or recipe.max_radius
        return PairSamples(
            *(pairs, side, seed, radius, skips),
            views=recipe.views,
            decoded=decoded,
            varied=varied,
        )
    photos = [i for i in items if isinstance(i, Path) and i != DEAD_LEAVES]
    return PhotoSamples(photos, side, seed, recipe, skips)


def batches(
    samples: Samples | Tinted, *, start: int, stop: int, batch: int, max_radius: float, workers: int
) -> Iterator[Batch]:
    """Batches of the steps `start` up to `stop`; step k holds the samples k*batch ... ."""
    numbers = range(start * batch, stop * batch)
    collate = _Collate(max_radius, samples.has_map)
    return iter(loader(samples, numbers, workers, ahead=4, batch=batch, collate=collate))


@dataclass(frozen=True)
class _Collate:
    max_radius: float
    has_map: bool

    def __call__(self, samples: list[Sample]) -> Batch:
        rest = {
            name: _stack_all([getattr(s, name) for s in samples])
            for name in ("left", "right", "moved", "seen")
        }
        if rest["seen"] is not None:
            rest["seen"] = self._map(rest["seen"])
        return Batch(
            _stack([s.blurry for s in samples]),
            _stack([s.sharp for s in samples]),
            self._map(_stack([s.radius for s in samples])),
            self.has_map,
            **rest,
        )

    def _map(self, radius: Tensor) -> Tensor:
        """Radii in pixels as a net's map has them."""
        return (radius / self.max_radius).clamp(0, 1)


def _stack_all(images: list[Image | None]) -> Tensor | None:
    """None where a sample has none."""
    present = [image for image in images if image is not None]
    return _stack(present) if len(present) == len(images) else None


def _stack(images: list[Image]) -> Tensor:
    """Pictures [H, W, 3] or maps [H, W] -> [N, 3 or 1, H, W]."""
    stack = np.stack(images)
    stack = stack if stack.ndim == 4 else stack[..., None]
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
