"""APL's detection generator G_ws: Zhao et al., "United Defocus Blur Detection and Deblurring via
Adversarial Promoting Learning", ECCV 2022 (section 3.2). Image in, map of the focus out.

The map is 1 where the picture is IN FOCUS and 0 where it is not, other than all maps of blur here.

From the paper: the first four blocks of VGG16 (2, 2, 3 and 3 convolutions of 64 to 512 features),
a decoder of four blocks with skips, as in the U-Net. From its public code: average pooling, batch
normalisation and LeakyReLU(0.2), pictures normalised as for ImageNet, maps from the features at
1/2, 1/4 and 1/8. Chosen here, where both are silent: no pooling after the fourth block, so that a
decoder block stands at the scale of each; two convolutions in such a block, on the features from
below, doubled, beside the skip; a 3x3 convolution gives each scale's map, and these are doubled and
added up, coarse to fine, before one sigmoid.

Doubling is bilinear WITHOUT aligned corners. The public code aligns them, which makes the sampling
grid depend on the size of the whole picture: a tile would then never give what the picture gives.

Weights start at random (He): no pretrained VGG16 is fetched. The paper reports 0.003 s a picture of
160x160 on an RTX 2080 Ti, neither parameters nor operations. Counted here: 15,465,604 parameters
and 191 GMAC at 600x400.

`apl-detect-lite` has no batch normalisation: biases instead, so that a batch of any size and mix
trains what is then used, and what is stored is what the graph holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.train.models.base import Net, Sigmoid, Variant

SLOPE = 0.2  # of LeakyReLU
_DECODER_CONVS = 2
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Features and convolutions of each encoder block, from full resolution down."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    convs: tuple[int, ...] = (2, 2, 3, 3)
    fold: int = 1  # side in pixels of the squares folded into channels before the first block
    norm: bool = True  # batch normalisation; without, convolutions have biases

    def __post_init__(self) -> None:
        for name, values in (("widths", self.widths), ("convs", self.convs)):
            if len(values) < 2 or min(values) < 1:
                raise ValueError(f"{name}: expected 2 or more, each at least 1, got {values}")
        if len(self.convs) != len(self.widths):
            raise ValueError(
                f"convs: expected {len(self.widths)} numbers, one for each of the widths "
                f"{self.widths}, got {self.convs}"
            )
        if self.fold not in (1, 2):
            raise ValueError(f"fold: expected 1 or 2, got {self.fold}")

    @property
    def multiple(self) -> int:
        """Of height and width, in pixels."""
        return self.fold << (len(self.widths) - 1)


class Normalise(nn.Module):
    """Pictures as nets trained on ImageNet take them, [N, 3, H, W] -> same, each about 0 to 1.

    What lies outside a picture, or is masked out after this, counts as the mean colour.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", _MEAN), ("std", _STD)):  # constants: not in a checkpoint
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """RGB [N, 3, H, W] in [0, 1] -> [N, 3, H, W]."""
        return (image - self.mean) / self.std


def he_conv(inputs: int, outputs: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size (divided by `stride`), for a LeakyReLU after it.

    Without bias where a batch normalisation follows, which would take it away again.
    """
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)
    nn.init.kaiming_normal_(conv.weight, a=SLOPE, nonlinearity="leaky_relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def normalisation(features: int, norm: bool) -> nn.Module:
    """What stands behind a convolution; nothing where a net has no batch normalisation."""
    return nn.BatchNorm2d(features) if norm else nn.Identity()


def block(inputs: int, outputs: int, convs: int, *, norm: bool) -> nn.Sequential:
    """So many 3x3 convolutions, each with batch normalisation (or biases) and LeakyReLU."""
    layers: list[nn.Module] = []
    for index in range(convs):
        conv = he_conv(outputs if index else inputs, outputs, bias=not norm)
        layers += [conv, normalisation(outputs, norm), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


def folded(x: Tensor, side: int) -> Tensor:
    """Squares of pixels as channels: [N, C, H, W] -> [N, C * side**2, H / side, W / side]."""
    return F.pixel_unshuffle(x, side) if side > 1 else x


def doubled(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, C, 2H, 2W], bilinear; the same for a tile as for the whole picture."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class AplDetect(Net):
    """The detection generator; see the module's text. 1 in its map is IN FOCUS."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.multiple
        self.halos = {"whole": _halo(config)}
        widths = config.widths
        inputs = (3 * config.fold**2, *widths[:-1])
        below = (*widths[1:], 0)  # features that come up to each scale
        self.normalise = Normalise()
        layers = partial(block, norm=config.norm)
        self.encoder = nn.ModuleList(map(layers, inputs, widths, config.convs))
        self.pool = nn.AvgPool2d(2)
        self.decoder = nn.ModuleList(
            layers(skip + deep, skip, _DECODER_CONVS)
            for skip, deep in zip(widths, below, strict=True)
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for width in widths)
        self.output = Sigmoid()

    def forward(self, image: Tensor) -> Tensor:
        """RGB [N, 3, H, W] -> focus [N, 1, H, W] in [0, 1], 1 = IN FOCUS."""
        skips = self._encode(folded(self.normalise(image), self.config.fold))
        x = self.decoder[-1](skips[-1])
        logits = self.heads[-1](x)
        for level in reversed(range(len(skips) - 1)):
            x = self.decoder[level](torch.cat((skips[level], doubled(x)), dim=1))
            logits = doubled(logits) + self.heads[level](x)
        focus: Tensor = self.output(doubled(logits) if self.config.fold > 1 else logits)
        return focus

    def _encode(self, x: Tensor) -> list[Tensor]:
        """The encoder's features, each block's [N, widths[i], H / 2**i, W / 2**i]."""
        features: list[Tensor] = []
        for index, layers in enumerate(self.encoder):
            x = layers(self.pool(x) if index else x)
            features.append(x)
        return features


def seen(config: Config, first: int, last: int) -> tuple[int, int]:
    """The first and the last row of the image that rows `first` to `last` of the map see.

    From the output back, through the deepest block, which sees the most.
    """
    if config.fold > 1:
        first, last = _before_doubling(first, last)
    first, last = first - 1, last + 1  # the map's convolution
    for _ in config.widths[1:]:
        first, last = _before_doubling(first - _DECODER_CONVS, last + _DECODER_CONVS)
    first, last = first - _DECODER_CONVS, last + _DECODER_CONVS
    for convs in config.convs[:0:-1]:  # with the pooling before each block
        first, last = 2 * (first - convs), 2 * (last + convs) + 1
    first, last = first - config.convs[0], last + config.convs[0]
    return config.fold * first, config.fold * (last + 1) - 1


def _before_doubling(first: int, last: int) -> tuple[int, int]:
    """A row in the middle of a pair is mixed from its own and its neighbour's."""
    return (first - 1) // 2, (last + 1) // 2


def _halo(config: Config) -> int:
    """Pixels from a pixel of the map to the farthest that it sees, at the worst place."""
    ranges = ((pixel, *seen(config, pixel, pixel)) for pixel in range(config.multiple))
    return max(max(pixel - first, last - pixel) for pixel, first, last in ranges)


def _build(config: Config) -> Net:
    return AplDetect(config)


CONFIGS = {
    "apl-detect": Config(),
    "apl-detect-lite": Config(widths=(32, 64, 128, 256), fold=2, norm=False),
    "apl-detect-tiny": Config(widths=(4, 8, 8), convs=(1, 1, 1)),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
