"""JDRL's baseline: Li et al., "Learning Single Image Defocus Deblurring with Misaligned Training
Pairs", AAAI 2023. A plain U-Net (Ronneberger et al. 2015): image in, sharp image out, no map.

JDRL is a way to train: at inference this net runs alone. The paper calls it "a vanilla U-Net" and
leaves its details to the supplement, so what follows is the public code's. Five levels of 64 to
1024 features, each two 3x3 convolutions with ReLU, no normalisation; max-pooling on the way down.
On the way up: nearest-neighbour doubling, a 2x2 convolution without activation (zeros are added
below and at the right), and the skip joined after it. Dropout of 0.4 after the encoder's two
deepest levels. No connection from input to output: a sigmoid keeps the output in [0, 1], and a new
net does not return its input. Weights start as there (He, by outputs). Its checkpoints load into
`jdrl-unet`; they were trained on BGR, which loading turns round. The variants are ours.

`jdrl-unet-lite` folds 2x2 pixels into 12 channels, runs the same U-Net with half the features, and
unfolds 12 channels into what is added to the picture: a quarter of the positions, a quarter of the
weights. Each level keeps its share of the work, and an output sees twice as far. A new lite net
returns its input, and has no dropout and no sigmoid: what takes the plain net's first hours, to
paint the picture that it was given, it need not learn.

The paper reports neither parameters nor operations nor times. Counted here: 31,033,411 parameters
and 203 GMAC at 600x400 (padded to 608x400); the lite net has 7,766,124 and 13.6 GMAC (padded to
608x416). It reports PSNR, SSIM, MAE and LPIPS on SDD, against the truth deformed by optical flow:
25.82, 0.783, 0.0320, 0.305 for this net trained by JDRL, and 24.62, 0.758, 0.0360, 0.344 without.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.train.models.base import Deblurrer, Sigmoid, Variant

_DROPPED = 2  # levels with dropout, the deepest ones
_DRAWN_TAIL = 0.3
_SLOPE = 6.0  # logits between black and white in nets with random weights


@dataclass(frozen=True, kw_only=True)
class Config:
    """Features of each level, from full resolution down, and what is around them."""

    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    dropout: float = 0.4  # share of the deepest levels' values set to 0, in training only
    residual: bool = False  # the picture is added to what the last convolution gives
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
    """[N, inputs, H, W] and a skip [N, outputs, 2H, 2W] -> [N, outputs, 2H, 2W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 2)
        self.level = Level(2 * outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """See the class."""
        doubled = F.interpolate(x, scale_factor=2.0, mode="nearest")
        risen = self.conv(F.pad(doubled, (0, 1, 0, 1)))  # 2x2 takes one away
        joined: Tensor = self.level(torch.cat((risen, skip), dim=1))
        return joined


class JdrlUNet(Deblurrer):
    """The plain U-Net; see the module's text."""

    max_radius = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.fold * 2 ** (len(config.widths) - 1)
        self.halos = {"whole": _halo(config)}
        widths, channels = config.widths, 3 * config.fold**2
        inputs = (channels, *widths[:-1])
        self.down = nn.ModuleList(Level(i, o) for i, o in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(Up(deep, shallow) for shallow, deep in pairwise(widths))
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(config.dropout)
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1)
        self.output = Sigmoid()
        # By outputs, joined skips make features grow some 30 times, and one step of Adam can then
        # switch all of the last ones off for good: a residual near 0 tells them nothing.
        mode: Literal["fan_in", "fan_out"] = "fan_in" if config.residual else "fan_out"
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
        if config.residual:
            assert self.tail.bias is not None
            nn.init.zeros_(self.tail.weight)
            nn.init.zeros_(self.tail.bias)

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        """[N, 3, H, W] -> ([N, 3, H, W], None); H, W multiples of `multiple`."""
        fold = self.config.fold
        features = self._descend(F.pixel_unshuffle(image, fold) if fold > 1 else image)
        x = features.pop()
        for up in reversed(self.up):
            x = up(x, features.pop())
        channels = self.tail(x)
        whole = F.pixel_shuffle(channels, fold) if fold > 1 else channels
        sharp: Tensor = image + whole if self.config.residual else self.output(whole)
        return sharp, None

    def draw(self, generator: torch.Generator) -> None:
        """See Net. Random features alone would end in flat colours or a saturated sigmoid: the
        picture is carried along the shallowest path, and all other features stain it.
        """
        if self.config.residual:
            super().draw(generator)
            with torch.no_grad():
                self.tail.weight *= _DRAWN_TAIL  # or what is added leaves little of the picture
            return
        skip = self.config.widths[0]  # where the skip's channels stand among those joined
        with torch.no_grad():
            for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):
                # He, by inputs: features of any depth have the picture's mean square.
                conv.weight.normal_(0, (2 / conv.weight[0].numel()) ** 0.5, generator=generator)
                assert conv.bias is not None
                conv.bias.normal_(0, 0.05, generator=generator)
            for name, first in (("down.0.0", 0), ("down.0.2", 0), ("up.0.level.0", skip)):
                self._carry(name, first, 1.0, rest=0.1)
            self._carry("up.0.level.2", 0, 1.0, rest=0.1)
            self._carry("tail", 0, _SLOPE, rest=0.3)
            assert self.tail.bias is not None
            self.tail.bias -= _SLOPE / 2  # mid-grey stays mid-grey

    def _carry(self, name: str, first: int, gain: float, *, rest: float) -> None:
        """Let a convolution's first outputs be its inputs from `first` on times `gain`, plus what
        they were times `rest`; as many as the picture has channels.
        """
        weight = self.get_parameter(f"{name}.weight")
        channels = range(min(self.tail.out_channels, weight.shape[0]))
        weight[: len(channels)] *= rest
        for channel in channels:
            weight[channel, first + channel, 1, 1] += gain

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
    """Pixels from an output pixel to the farthest that it sees, at the worst place in the grid."""
    side = config.fold * 2 ** (len(config.widths) - 1)
    ranges = ((pixel, *_seen(config, pixel)) for pixel in range(side))
    return max(max(pixel - first, last - pixel) for pixel, first, last in ranges)


def _seen(config: Config, pixel: int) -> tuple[int, int]:
    """The first and the last row that row `pixel` of the output sees, from the output back.

    The way through the deepest level sees the most.
    """
    depth = len(config.widths) - 1
    first = last = pixel // config.fold
    first, last = first - 1, last + 1  # the last convolution
    for _ in range(depth):  # a level's convolutions, the 2x2 one, the doubling
        first, last = (first - 2) // 2, (last + 3) // 2
    first, last = first - 2, last + 2
    for _ in range(depth):  # pooling, a level's convolutions
        first, last = 2 * first - 2, 2 * last + 3
    return config.fold * first, config.fold * (last + 1) - 1


_PUBLIC_LAYERS = {  # of the public code: blocks 1 to 5 go down, 6 to 9 up to full resolution
    **{f"encoder.block{n}.{c}": f"down.{n - 1}.{c}" for n in range(1, 6) for c in (0, 2)},
    **{f"up{n}.1": f"up.{9 - n}.conv" for n in range(6, 10)},
    **{f"block{n}.{c}": f"up.{9 - n}.level.{c}" for n in range(6, 10) for c in (0, 2)},
    "out.0": "tail",
}


def from_public_name(key: str) -> str:
    """This project's name of a parameter of the public code, such as `encoder.block3.2.weight`.

    Names of another kind come back unchanged, so that the check of keys can report them.
    """
    layer, _, kind = key.rpartition(".")
    return f"{_PUBLIC_LAYERS[layer]}.{kind}" if layer in _PUBLIC_LAYERS else key


def _build(config: Config) -> Deblurrer:
    return JdrlUNet(config)


CONFIGS = {
    "jdrl-unet": Config(),
    "jdrl-unet-lite": Config(widths=(32, 64, 128, 256, 512), dropout=0.0, residual=True, fold=2),
    "jdrl-unet-tiny": Config(widths=(8, 16, 32)),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
