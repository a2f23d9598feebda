"""A quick look at how good a net is: fixed synthetic crops of photos it was not trained on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from allfocus.train.data import Batch, Samples, batches
from allfocus.train.metrics import psnr
from allfocus.train.models.base import Deblurrer

EDGES = (0.0, 0.5, 2.0, 4.0, 8.0, None)  # pixels of blur radius; None: no upper end
_LARGEST = 8.0  # pixels: radii are told apart up to here for nets without a map
_HIGHEST_PSNR = 99.0  # dB, of equal pixels: JSON has no infinity


@dataclass(frozen=True)
class Band:
    """PSNR in dB over all pixels of all crops with a blur radius in [low, high) pixels.

    None where no pixel is. At most 99 dB: where nothing is blurred, the truth is the input.
    """

    low: float
    high: float | None
    share: float  # of all pixels
    before: float | None  # input against truth
    after: float | None  # output against truth
    changed: float | None  # output against input: how much was left alone


@dataclass(frozen=True)
class Report:
    """PSNR over all pixels and by radius, and the map's mean absolute error.

    Without true maps there is neither an error of the map nor a radius to tell bands by.
    """

    crops: int
    map_mae: float | None  # in units of max_radius; None where the net estimates no radius
    whole: Band
    bands: tuple[Band, ...] | None

    def line(self) -> str:
        """The report in one line."""
        gain = f"PSNR {self.whole.before:.2f} -> {self.whole.after:.2f} dB"
        return gain if self.map_mae is None else f"{gain}, map MAE {self.map_mae:.3f}"


@dataclass(frozen=True)
class _Pixels:
    """All pixels of all crops: images [P, 3] in [0, 1], and the true blur radius [P] in pixels."""

    blurry: NDArray[np.float32]
    out: NDArray[np.float32]
    sharp: NDArray[np.float32]
    radius: NDArray[np.float32]

    def band(self, low: float, high: float | None) -> Band:
        inside = self.radius >= low if high is None else (self.radius >= low) & (self.radius < high)
        share = float(inside.mean())
        if not share:
            return Band(low, high, share, None, None, None)
        blurry, out, sharp = (image[inside] for image in (self.blurry, self.out, self.sharp))
        pairs = ((blurry, sharp), (out, sharp), (out, blurry))
        return Band(low, high, share, *(min(_HIGHEST_PSNR, psnr(a, b)) for a, b in pairs))


def validate(net: Deblurrer, samples: Samples, crops: int) -> Report:
    """Run `net` over the first `crops` samples, output quantised to 8 bits."""
    rows, errors, has_map = [], [], True
    scale = net.max_radius or _LARGEST
    for batch, sharp, defocus in _run(net, samples, crops, scale):
        out = torch.round(sharp.clamp(0, 1) * 255) / 255
        has_map = has_map and batch.has_map
        if defocus is not None and net.max_radius and batch.has_map:
            errors.append(float((defocus - batch.defocus).abs().mean()))
        radius = batch.defocus.flatten() * scale
        images = (image[0].flatten(1).T for image in (batch.blurry, out, batch.sharp))
        rows.append([tensor.numpy() for tensor in (*images, radius)])
    pixels = _Pixels(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))
    map_mae = float(np.mean(errors)) if errors else None
    return Report(crops, map_mae, pixels.band(0.0, None), _bands(pixels) if has_map else None)


def _bands(pixels: _Pixels) -> tuple[Band, ...]:
    return tuple(pixels.band(low or 0.0, high) for low, high in itertools.pairwise(EDGES))


def _run(
    net: Deblurrer, samples: Samples, crops: int, scale: float
) -> Iterator[tuple[Batch, torch.Tensor, torch.Tensor | None]]:
    net.eval()
    source = batches(samples, start=0, stop=crops, batch=1, max_radius=scale, workers=0)
    with torch.inference_mode():
        for batch in source:
            yield batch, *net(batch.blurry)
    net.train()
