"""APL's discriminator D (Zhao et al., ECCV 2022, section 3.2): is a picture clear all over?

From the paper: the first three blocks of VGG16 (2, 2 and 3 convolutions of 64, 128 and 256
features), then three fully connected layers to one value, on pictures of 160x160, the size that
the paper trains at. Chosen here: LeakyReLU(0.2) and average pooling after each block, as in the
generator, so that a gradient reaches every pixel; no batch normalisation, since with the paper's
batches of one a real and a generated picture would each be normalised by itself; two hidden layers
of 256 (VGG16's 4,096 would hold 436 million weights, for the paper's 604 pictures). Counted:
28,016,193 parameters, most of them in the first fully connected layer, and 5 GMAC a picture.

It serves training only: it is not registered, and has no place in an export.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn as nn
from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.train.models.apl_detect import SLOPE, Normalise, he_conv


@dataclass(frozen=True, kw_only=True)
class Config:
    """Features and convolutions of each block, from full resolution down, and what is after."""

    side: int = 160  # of the pictures, in pixels: square
    widths: tuple[int, ...] = (64, 128, 256)
    convs: tuple[int, ...] = (2, 2, 3)
    hidden: tuple[int, int] = (256, 256)  # of the fully connected layers before the last

    def __post_init__(self) -> None:
        for name, values in (("widths", self.widths), ("convs", self.convs)):
            if not values or min(values) < 1:
                raise ValueError(f"{name}: expected 1 or more, each at least 1, got {values}")
        if len(self.convs) != len(self.widths):
            raise ValueError(
                f"convs: expected {len(self.widths)} numbers, one for each of the widths "
                f"{self.widths}, got {self.convs}"
            )
        if len(self.hidden) != 2 or min(self.hidden) < 1:
            raise ValueError(f"hidden: expected 2 widths, each at least 1, got {self.hidden}")
        step = 2 ** len(self.widths)
        if self.side < 1 or self.side % step:
            raise ValueError(f"side: expected a multiple of {step} pixels, got {self.side}")


class Discriminator(nn.Module):
    """RGB [N, 3, side, side] in [0, 1] -> logits [N, 1]: D = sigmoid, 1 is clear all over.

    The logarithms of eq. 6 are those of `binary_cross_entropy_with_logits`, finite for any logit.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [Normalise()]
        inputs = 3
        for width, convs in zip(config.widths, config.convs, strict=True):
            for _ in range(convs):
                layers += [he_conv(inputs, width, bias=True), nn.LeakyReLU(SLOPE)]
                inputs = width
            layers.append(nn.AvgPool2d(2))
        self.features = nn.Sequential(*layers)
        first, second = config.hidden
        positions = (config.side // 2 ** len(config.widths)) ** 2
        self.judge = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs * positions, first),
            nn.LeakyReLU(SLOPE),
            nn.Linear(first, second),
            nn.LeakyReLU(SLOPE),
            nn.Linear(second, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, side, side] -> [N, 1]; raises UsageError for another size."""
        side = self.config.side
        if image.dim() != 4 or tuple(image.shape[1:]) != (3, side, side):
            raise UsageError(
                f"discriminator: expected pictures [N, 3, {side}, {side}], got "
                f"{list(image.shape)}; cut or resize them, or build it with another Config.side"
            )
        logits: Tensor = self.judge(self.features(image))
        return logits
