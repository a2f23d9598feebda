"""APL's detection net drawn a second time, layer by layer, and pictures for its tests."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from allfocus.train.models.apl_detect import Config


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def layer(inputs: int, outputs: int, positions: int, *, norm: bool) -> tuple[int, int]:
    """Parameters and MACs of a 3x3 convolution and its normalisation, or with bias and without."""
    return 9 * inputs * outputs + (1 + norm) * outputs, 9 * inputs * outputs * positions


def layers(config: Config, positions: int) -> list[tuple[int, int]]:
    """The net drawn again, block by block; `positions`: pixels of the picture."""
    drawn: list[tuple[int, int]] = []
    conv = partial(layer, norm=config.norm)
    for level, (width, convs) in enumerate(zip(config.widths, config.convs, strict=True)):
        there = positions // config.fold**2 // 4**level
        above = config.widths[level - 1] if level else 3 * config.fold**2
        drawn += [conv(above, width, there), *[conv(width, width, there)] * (convs - 1)]
        below = config.widths[level + 1] if level + 1 < len(config.widths) else 0
        drawn += [conv(width + below, width, there), conv(width, width, there)]
        drawn.append((9 * width + 1, 9 * width * there))  # this scale's map
    return drawn
