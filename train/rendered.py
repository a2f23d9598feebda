"""Training samples rendered once and kept, so that many runs share them.

Making a sample takes about as long as a small net takes to train on it. How a folder of rendered
ones holds them stands in `store`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from allfocus.runtime.errors import InputError, UsageError
from allfocus.train import store
from allfocus.train.pair_samples import mirror
from allfocus.train.photo_samples import PhotoSamples, turn
from allfocus.train.synthetic import PICTURES, PLANES, Sample
from allfocus.train.workers import loader

_HELD_OUT = 10  # one sample in so many is drawn from photos that are held out


@dataclass(frozen=True)
class Rendered:
    """One of the samples of a folder."""

    folder: Path
    index: int
    held_out: bool = False  # drawn from photos that the others do not show


def find_rendered(folder: Path) -> list[Rendered]:
    """The samples in `folder`; none where it is not such a folder."""
    if not store.is_store(folder):
        return []
    kept = store.open_store(folder)
    first_held = len(kept) - kept.held_out
    return [Rendered(folder, index, index >= first_held) for index in range(len(kept))]


class RenderedSamples(Dataset[Sample]):
    """Crops of `side` pixels of rendered samples, turned and mirrored at random.

    Without `views` those that are there are not read.
    """

    has_map = True
    has_sharp = True

    def __init__(self, items: list[Rendered], side: int, seed: int, *, views: bool = True) -> None:
        self.items, self.side, self.seed = items, side, seed
        self._store = store.open_store(items[0].folder)
        self.has_views = views and "left" in self._store.arrays
        left_out = () if views else ("left", "right")
        self._pictures = [name for name in self._store.pictures if name not in left_out]
        if self._store.side < side:
            raise InputError(
                f"{items[0].folder}: its samples are {self._store.side} pixels wide, less than the "
                f"crop of {side}; use a smaller --crop, or `allfocus data render --side {side}`"
            )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng([self.seed, index])
        number = self.items[int(rng.integers(len(self.items)))].index
        y, x = rng.integers(self._store.side - self.side + 1, size=2)
        cut = (number, slice(int(y), int(y) + self.side), slice(int(x), int(x) + self.side))
        arrays, names = self._store.arrays, self._pictures
        codes = [arrays[name][cut].astype(np.float32) / np.float32(255) for name in names]
        planes = self._store.planes
        radii = [arrays[name][cut].astype(np.float32)[..., None] for name in planes]
        stack = np.concatenate((*codes, *radii), axis=2)
        stack = mirror(rng, stack) if self.has_views else turn(rng, stack)
        parts = {name: stack[..., 3 * i : 3 * i + 3] for i, name in enumerate(names)}
        maps = {name: stack[..., 3 * len(names) + i] for i, name in enumerate(planes)}
        return Sample(**parts, **maps)


def render_into(
    folder: Path,
    samples: PhotoSamples,
    count: int,
    workers: int,
    held_out: PhotoSamples | None = None,
    *,
    source: Mapping[str, object] | None = None,
) -> Generator[int, None, None]:
    """Fill `folder` with the first `count` of `samples`; yields how many are done.

    With `held_out`, which shows other photos, one in ten, the last of all, is of those. `source`
    says in `rendered.json` what the samples show.

    Raises UsageError where something is there already or a number cannot be meant, AllfocusError
    where the folder cannot be written or the disk is too small; then, on any other error or Ctrl-C,
    and where no more are asked for, nothing half-written stays.
    """
    if samples.seed < 0:  # a sample's own generator would refuse it, after the folder was made
        raise UsageError(f"seed: expected a whole number of 0 or more, got {samples.seed}")
    recipe = samples.recipe
    pictures = 2 + 2 * recipe.views + recipe.misaligned
    store.check_space(folder, pictures, count, samples.side)
    apart = count // _HELD_OUT if held_out else 0
    drawn = loader(samples, range(count - apart), workers, ahead=8)
    if held_out and apart:
        drawn = chain(drawn, loader(held_out, range(count - apart, count), workers, ahead=8))
    store.make_empty(folder)
    about = {"count": count, "side": samples.side, "seed": samples.seed, "held_out": apart}
    try:
        yield from _fill(folder, drawn, count)
        store.finish(folder, {**about, **(source or {}), "recipe": asdict(recipe)})
    except BaseException:
        store.discard(folder)
        raise


def _fill(folder: Path, drawn: Iterable[Sample], count: int) -> Iterator[int]:
    arrays: store.Arrays = {}
    for index, sample in enumerate(drawn):
        if not arrays:
            names = [n for n in (*PICTURES, *PLANES) if getattr(sample, n) is not None]
            arrays = store.allocate(folder, names, count, len(sample.radius))
        for name, array in arrays.items():
            value = np.asarray(getattr(sample, name))
            array[index] = value if name in PLANES else np.rint(value * 255)
        yield index + 1
