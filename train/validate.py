"""A quick look at how good a net is: fixed synthetic crops of photos it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from allfocus.train import bands
from allfocus.train.data import Batch, Samples, batches
from allfocus.train.flow_truth import deformed
from allfocus.train.models.base import Deblurrer

_LARGEST = 8.0  # pixels: radii are told apart up to here for nets without a map


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
    deformed: bool = False  # the truth was warped onto what it is compared with

    def line(self) -> str:
        """The report in one line."""
        gain = f"PSNR {self.whole.before:.2f} -> {self.whole.after:.2f} dB"
        gain += " (truth deformed by optical flow)" if self.deformed else ""
        return gain if self.map_mae is None else f"{gain}, map MAE {self.map_mae:.3f}"


def validate(net: Deblurrer, samples: Samples, crops: int, *, deform: bool = False) -> Report:
    """Run `net` over the first `crops` samples, output quantised to 8 bits.

    `deform`: the truth does not lie over the blurry picture, and is warped onto what is compared
    with it.
    """
    squares, errors, has_map = bands.SquaresByRadius(3), [], True
    scale = net.max_radius or _LARGEST
    for batch, sharp, defocus in _run(net, samples, crops, scale):
        given, truth = _picture(batch.blurry), _picture(batch.sharp)
        out = _picture(torch.round(sharp.clamp(0, 1) * 255) / 255)
        has_map = has_map and batch.has_map
        if defocus is not None and net.max_radius and batch.has_map:
            errors.append(float((defocus - batch.defocus).abs().mean()))
        radius = (batch.defocus[0, 0] * scale).numpy()
        truths = [deformed(truth, each) if deform else truth for each in (given, out)]
        squares.add(radius, ((given, truths[0]), (out, truths[1]), (out, given)))
    map_mae = float(np.mean(errors)) if errors else None
    told = tuple(_band(band) for band in squares.each()) if has_map else None
    return Report(crops, map_mae, _band(squares.whole()), told, deform)


def _picture(image: Tensor) -> bands.Real:
    """[1, 3, H, W] -> [H, W, 3]."""
    return np.asarray(image[0].permute(1, 2, 0).numpy(), np.float32)


def _band(band: bands.Band) -> Band:
    return Band(band.low, band.high, band.share, *band.psnr_db)


def _run(
    net: Deblurrer, samples: Samples, crops: int, scale: float
) -> Iterator[tuple[Batch, Tensor, Tensor | None]]:
    net.eval()
    source = batches(samples, start=0, stop=crops, batch=1, max_radius=scale, workers=0)
    with torch.inference_mode():
        for batch in source:
            sharp, seen = net(batch.blurry.to(next(net.parameters(), batch.blurry).device))
            yield batch, sharp.cpu(), None if seen is None else seen.cpu()
    net.train()
