"""Isotropic convolution written down once more, element by element, and inputs to try it on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.kernels.taps import seed_count, seed_slice


@dataclass(frozen=True)
class Case:
    """Sizes of one call."""

    n: int = 1
    channels: int = 3
    height: int = 9
    width: int = 11
    levels: int = 8
    scale: float = 1.0  # of the seeds
    seed: int = 0

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
        """image, seeds and weights drawn at random."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(channels: int) -> Tensor:
            shape = (self.n, channels, self.height, self.width)
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        seeds = self.scale * draw(seed_count(self.levels))
        weights = torch.softmax(draw(self.levels), 1)
        return draw(self.channels).to(dtype), seeds.to(dtype), weights.to(dtype)


def by_elements(image: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:
    """The operation as JDRL's eq. 7-9 say it: every kernel of every pixel is written out."""
    levels = weights.shape[1]
    out = weights[:, :1] * image
    for level in range(2, levels + 1):
        patches = _patches(image, level - 1)
        blurred = (patches * kernels(seeds, level)[:, None]).sum(2)
        out = out + weights[:, level - 1 : level] * blurred
    return out


def kernels(seeds: Tensor, level: int) -> Tensor:
    """A level's kernel at each pixel [N, (2i-1)^2, H, W], its elements row by row."""
    return torch.softmax(_elements(seeds[:, seed_slice(level)].abs(), level), 1)


def _elements(radial: Tensor, level: int) -> Tensor:
    """Values of a level's kernel before the softmax [N, (2i-1)^2, H, W], row by row."""
    reach = level - 1
    values = []
    for y in range(-reach, level):
        for x in range(-reach, level):
            rho = math.hypot(y, x)
            low, high = math.floor(rho), math.ceil(rho)
            if rho > reach:
                value = torch.zeros_like(radial[:, 0])
            elif low == high:
                value = radial[:, low]
            else:
                value = (high - rho) * radial[:, low] + (rho - low) * radial[:, high]
            values.append(value)
    return torch.stack(values, 1)


def _patches(image: Tensor, reach: int) -> Tensor:
    """The image around each pixel [N, C, (2r+1)^2, H, W], zeros outside."""
    height, width = image.shape[2:]
    padded = F.pad(image, (reach,) * 4)
    span = range(2 * reach + 1)
    parts = [padded[:, :, y : y + height, x : x + width] for y in span for x in span]
    return torch.stack(parts, 2)
