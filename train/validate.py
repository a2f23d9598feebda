"""A quick look at how good a net is: fixed synthetic crops of photos it was not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from allfocus.train.data import Samples, batches
from allfocus.train.metrics import psnr
from allfocus.train.models.base import Deblurrer

BANDS = ((0.0, 0.5), (0.5, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, math.inf))  # pixels of blur radius


@dataclass(frozen=True)
class Band:
    """PSNR in dB against the truth over all pixels with a blur radius in [low, high) pixels."""

    low: float
    high: float
    share: float  # of all pixels
    before: float
    after: float
    changed: float  # PSNR between input and output: how much was left alone


@dataclass(frozen=True)
class Report:
    """Mean over crops of PSNR before and after, the map's error, and the bands of radius."""

    crops: int
    before: float
    after: float
    map_mae: float  # in units of max_radius
    bands: tuple[Band, ...]

    def line(self) -> str:
        """The report in one line."""
        return f"PSNR {self.before:.2f} -> {self.after:.2f} dB, map MAE {self.map_mae:.3f}"


def validate(net: Deblurrer, samples: Samples, crops: int) -> Report:
    """Run `net` over the first `crops` samples, output quantised to 8 bits."""
    rows: list[tuple[Any, ...]] = []
    net.eval()
    with torch.inference_mode():
        for batch in batches(
            samples, start=0, stop=crops, batch=1, max_radius=net.max_radius, workers=0
        ):
            sharp, defocus = net(batch.blurry)
            out = torch.round(sharp.clamp(0, 1) * 255) / 255
            rows.append(
                tuple(
                    t[0].numpy() for t in (batch.blurry, out, batch.sharp, batch.defocus, defocus)
                )
            )
    net.train()
    before = float(np.mean([min(99.0, psnr(b, s)) for b, _, s, _, _ in rows]))
    after = float(np.mean([min(99.0, psnr(o, s)) for _, o, s, _, _ in rows]))
    error = float(np.mean([np.abs(m - e).mean() for *_, m, e in rows]))
    bands = tuple(_band(rows, low, high, net.max_radius) for low, high in BANDS)
    return Report(crops, before, after, error, bands)


def _band(rows: list[tuple[Any, ...]], low: float, high: float, max_radius: float) -> Band:
    picked: list[list[Any]] = [[], [], []]
    total = 0
    for blurry, out, sharp, defocus, _ in rows:
        radius = defocus[0] * max_radius
        inside = (radius >= low) & (radius < high)
        total += inside.size
        for group, image in zip(picked, (blurry, out, sharp), strict=True):
            group.append(image[:, inside])
    b, o, s = (np.concatenate(group, axis=1) for group in picked)
    if b.size == 0:
        return Band(low, high, 0.0, math.nan, math.nan, math.nan)
    return Band(low, high, b.shape[1] / total, psnr(b, s), psnr(o, s), psnr(o, b))
