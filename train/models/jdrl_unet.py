"""JDRL's baseline: Li et al., "Learning Single Image Defocus Deblurring with Misaligned Training
Pairs", AAAI 2023. A plain U-Net (Ronneberger et al. 2015), image in, sharp image out, no map.

JDRL is a way to train: at inference this net runs alone. The paper calls it "a vanilla U-Net" and
leaves its details to the supplement. What follows is the public code's: widths 64 to 1024, two 3x3
convolutions with ReLU a level, no normalisation, max-pooling; upwards nearest-neighbour doubling,
a 2x2 convolution without activation, padded with zeros below and at the right, then the skip; dropout
of 0.4 after the two deepest levels of the encoder; no connection from input to output, whose sigmoid
keeps it in [0, 1]. Weights start as there too (He, by outputs); so a new net does not return its
input. Ours alone: dropout at exactly the two deepest levels of any depth, and `jdrl-unet-lite`.

`jdrl-unet-lite` folds 2x2 pixels into 12 channels, runs the same U-Net with half the features, and
unfolds 12 channels into the picture before the sigmoid. That is a quarter of the positions and of
the weights; and 1/16 of the operations but for the ends, which see 12 channels instead of 3. Full
resolution is where the plain net spends a third of its operations on its narrowest features.

The paper reports neither parameters nor operations nor times. Counted here: LITERAL_COUNTS
It reports PSNR, SSIM, MAE and LPIPS of this net trained with JDRL (and without): on SDD
25.82/0.783/0.0320/0.305 (24.62/0.758/0.0360/0.344).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.train.models.base import Deblurrer, Variant

_DROPPED = 2  # levels with dropout, the deepest ones


@dataclass(frozen=True, kw_only=True)
class Config:
    """Features of each level, from full resolution down, and what is around them."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    dropout: float = 0.4  # share of the deepest levels' values set to 0, in training only
    fold: int = 1  # side in pixels of the squares folded into channels before the first level

    def __post_init__(self) -> None:
        if len(self.widths) < _DROPPED or min(self.widths) < 1:
            raise ValueError(f"widths: expected 2 or more, each at least 1, got {self.widths}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 or more and under 1, got {self.dropout}")
        if self.fold not in (1, 2):
            raise ValueError(f"fold: expected 1 or 2, got {self.fold}")


class Level(nn.Sequential):
    """Two 3x3 convolutions with ReLU, [N, inputs, H, W] -> [N, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
        )


class Up(nn.Module):
    """[N, inputs, H, W] and a skip [N, inputs / 2, 2H, 2W] -> [N, outputs, 2H, 2W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 2)
        self.level = Level(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """See the class."""
        doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
        risen = self.conv(F.pad(doubled, (0, 1, 0, 1)))  # as many as went in: 2x2 eats one
        joined: Tensor = self.level(torch.cat((risen, skip), dim=1))
        return joined


class JdrlUNet(Deblurrer):
    """The plain U-Net; see the module's text."""

    max_radius = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.fold * 2 ** (len(config.widths) - 1)
        self.halo = _halo(config)
        widths, channels = config.widths, 3 * config.fold**2
        inputs = (channels, *widths[:-1])
        self.down = nn.ModuleList(Level(i, o) for i, o in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(
            Up(deep, shallow) for shallow, deep in zip(widths[:-1], widths[1:], strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(config.dropout)
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        self.output = nn.Sigmoid()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        """[N, 3, H, W] -> ([N, 3, H, W], None); H, W multiples of `multiple`."""
        fold = self.config.fold
        features = self._descend(F.pixel_unshuffle(image, fold) if fold > 1 else image)
        x = features.pop()
        for up in reversed(self.up):
            x = up(x, features.pop())
        channels = self.tail(x)
        sharp: Tensor = self.output(F.pixel_shuffle(channels, fold) if fold > 1 else channels)
        return sharp, None

    def _descend(self, x: Tensor) -> list[Tensor]:
        """The encoder's features, each level [N, widths[i], H / 2**i, W / 2**i]."""
        features: list[Tensor] = []
        for index, level in enumerate(self.down):
            x = level(self.pool(x) if index else x)
            if index >= len(self.down) - _DROPPED:
                x = self.dropout(x)
            features.append(x)
        return features


def _halo(config: Config) -> int:
    """The farthest pixel that any output pixel sees, which depends on its place in the grid."""
    side = config.fold * 2 ** (len(config.widths) - 1)
    return max(max(pixel - low, high - pixel) for pixel in range(side) for low, high in _seen)


_CONFIGS = {}
