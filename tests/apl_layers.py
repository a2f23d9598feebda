"""APL's detection net drawn a second time, layer by layer, and pictures for its tests."""

from __future__ import annotations

import torch
from torch import Tensor

from allfocus.train.models.apl_detect import Config


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def layer(inputs: int, outputs: int, positions: int) -> tuple[int, int]:
    """Parameters and MACs of a 3x3 convolution without bias, and of the normalisation after it."""
    return 9 * inputs * outputs + 2 * outputs, 9 * inputs * outputs * positions


def layers(config: Config, positions: int) -> list[tuple[int, int]]:
    """The net drawn again, block by block; `positions`: pixels of the picture."""
    drawn: list[tuple[int, int]] = []
    for level, (width, convs) in enumerate(zip(config.widths, config.convs, strict=True)):
        there = positions // config.fold**2 // 4**level
        above = config.widths[level - 1] if level else 3 * config.fold**2
        drawn += [layer(above, width, there), *[layer(width, width, there)] * (convs - 1)]
        below = config.widths[level + 1] if level + 1 < len(config.widths) else 0
        drawn += [layer(width + below, width, there), layer(width, width, there)]
        drawn.append((9 * width + 1, 9 * width * there))  # this scale's map
    return drawn
