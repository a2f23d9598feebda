"""Other colours and tones for samples, so that a net does not learn those of a few photos.

All pictures of a sample are changed alike. A blur stays that blur when channels change places; on
another tone curve, or with less colour, it is nearly one, of another camera.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from allfocus.train.synthetic import PICTURES, Image, Sample

if TYPE_CHECKING:
    from allfocus.train.data import Samples

_MOST_COLOUR = 1.3  # times as far from grey as it was; the least is grey
_CURVE = 0.35  # of the logarithm of a tone curve's exponent, to either side ...
_TINGE = 0.1  # ... and of each channel besides


class Tinted(Dataset[Sample]):
    """`samples`, of which `share` have other colours and tones; the same ones for the same seed."""

    def __init__(self, samples: Samples, share: float, seed: int) -> None:
        self.has_map, self.has_sharp = samples.has_map, samples.has_sharp
        self.has_views = samples.has_views
        self._samples, self._share, self._seed = samples, share, seed

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample, rng = self._samples[index], np.random.default_rng([self._seed, index, 1])
        return tinted(rng, sample) if rng.random() < self._share else sample


def tinted(rng: np.random.Generator, sample: Sample) -> Sample:
    """`sample` with its channels in another order, more or less colour, and another tone curve."""
    order, colour = rng.permutation(3), np.float32(rng.uniform(0, _MOST_COLOUR))
    exponents = rng.uniform(-_CURVE, _CURVE) + rng.uniform(-_TINGE, _TINGE, 3)
    curve = np.exp(exponents).astype(np.float32)

    def changed(picture: Image) -> Image:
        mixed = picture[..., order]
        grey = mixed.mean(2, keepdims=True)
        return np.asarray(np.clip(grey + colour * (mixed - grey), 0, 1) ** curve, np.float32)

    pictures = {name: getattr(sample, name) for name in PICTURES}
    return replace(sample, **{n: changed(p) for n, p in pictures.items() if p is not None})
