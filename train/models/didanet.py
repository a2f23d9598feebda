"""DID-ANet: Ma et al., "Defocus Image Deblurring Network With Defocus Map Estimation as Auxiliary
Task", IEEE TIP 2021. A map estimator, and a deblurrer guided by its map.

`didanet` follows the paper (section III-A): a map four times smaller than the image, then 12
residual blocks of 128 features at full resolution. Its blocks have no batch normalisation, as in
the public code. `didanet-released` is the public code's net: a map at full resolution, 16 blocks,
of which those from the fifth on are scaled by 0.1.

`didanet-lite` (ours) folds 2x2 pixels of image and map into 16 channels, runs as many blocks with
half the features, and unfolds 12 channels into the residual. Each block is 4 times cheaper by the
positions and 4 times by the features, but sees twice as far; no layer but the estimator's first,
which strides, meets the full resolution, where memory traffic is what a CPU or a small board pays
for. The map is folded as the image is, rather than averaged: a true map's edges (training's first
stage) stay where they are, for 0.2 % of the work. And where the map says that nothing is blurred,
nothing is added: what is in focus stays as it was taken. Its estimator also looks around at 1/8 and
1/16. Counted: 1,754,189 parameters and 63.8 GMAC (padded to 608x400).

The paper's "19.2 million parameters" and "570 billion FLOPs" at 600x400 do not fit this text: its
12 blocks of 128 features alone hold 3.5 million weights, which run at each of 240,000 pixels.
Counted here: 4,069,444 parameters and 892 GMAC (1,785 GFLOP); the public code's net has 5,213,188
and 1,250 GMAC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.runtime.signature import Phase
from allfocus.train.models.base import Deblurrer, Method, Variant

MAX_RADIUS = 8.0  # pixels of blur radius at map value 1


@dataclass(frozen=True, kw_only=True)
class Config:
    """Widths and depths of both sub-nets."""

    map_scale: int = 4  # the map is this many times smaller than the image: 1 or 4
    map_features: int = 64
    map_blocks: int = 4
    map_levels: int = 0  # further halvings below the map's resolution, for a wider view
    features: int = 128
    blocks: int = 12
    scaled_from: int | None = None  # first block (counted from 0) whose branch is scaled ...
    scale: float = 0.1  # ... by this
    untouched: float = 0.0  # blur radius in pixels up to which the picture is left as it is
    shuffle: int = 1  # the deblurrer works on a picture so many times smaller, by pixel-unshuffle

    def __post_init__(self) -> None:
        if self.map_scale not in (1, 4):
            raise ValueError(f"map_scale: expected 1 or 4, got {self.map_scale}")
        if not 0 <= self.untouched < MAX_RADIUS:
            raise ValueError(
                f"untouched: expected 0 or more and under {MAX_RADIUS:g}, got {self.untouched}"
            )
        if self.shuffle not in (1, 2, 4):
            raise ValueError(f"shuffle: expected 1, 2 or 4, got {self.shuffle}")
        if self.map_levels < 0:
            raise ValueError(f"map_levels: expected 0 or more, got {self.map_levels}")
        for name in ("map_features", "map_blocks", "features", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    @property
    def multiple(self) -> int:
        """Of height and width, in pixels."""
        return max(self.map_scale << self.map_levels, self.shuffle)  # each divides the other

    def block_scale(self, index: int) -> float:
        """Factor of the branch of residual block `index`, counted from 0."""
        return self.scale if self.scaled_from is not None and index >= self.scaled_from else 1.0


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size (divided by `stride`)."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)


class ResidualBlock(nn.Module):
    """`x + scale * conv(relu(conv(x)))`, [N, C, H, W] -> same.

    The second convolution starts at zero, so that a new block is the identity: depth can be
    switched on during training without changing what the net computes.
    """

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)
        self.scale = scale
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        for parameter in (self.conv1.bias, self.conv2.weight, self.conv2.bias):
            assert parameter is not None
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        branch: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + branch if self.scale == 1.0 else x + self.scale * branch


class WiderView(nn.Module):
    """What lies around, seen at half the resolution and, with `levels` over 1, at half of that.

    Flat parts of a picture look alike in focus and out of it; only their surroundings tell.
    """

    def __init__(self, features: int, levels: int) -> None:
        super().__init__()
        self.down = conv(features, features, 2)
        self.before = ResidualBlock(features, 1.0)
        self.deeper = WiderView(features, levels - 1) if levels > 1 else None
        self.after = ResidualBlock(features, 1.0)
        self.up = conv(features, features)
        nn.init.kaiming_normal_(self.down.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]; H and W multiples of 2**levels."""
        y = self.before(F.relu(self.down(x)))
        y = y if self.deeper is None else y + self.deeper(y)
        y = self.up(self.after(y))
        return F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)


class MapEstimator(nn.Module):
    """Image [N, 3, H, W] -> defocus map [N, 1, H, W], estimated at 1/map_scale and upsampled."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.map_features
        self.map_scale = config.map_scale
        if config.map_scale == 1:
            self.head: nn.Module = conv(3, width)
        else:
            self.head = nn.Sequential(conv(3, width, 2), nn.ReLU(), conv(width, width, 2))
        self.wider = WiderView(width, config.map_levels) if config.map_levels else None
        self.blocks = nn.Sequential(*(ResidualBlock(width, 1.0) for _ in range(config.map_blocks)))
        self.body = conv(width, width)
        self.tail = conv(width, 1)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, 1, H, W]."""
        features = self.head(image)
        features = features if self.wider is None else features + self.wider(features)
        small: Tensor = self.tail(self.body(self.blocks(features)))
        if self.map_scale == 1:
            return small
        return F.interpolate(
            small, scale_factor=float(self.map_scale), mode="bilinear", align_corners=False
        )


class Restorer(nn.Module):
    """Image [N, 3, H, W] and map [N, 1, H, W] -> sharp image [N, 3, H, W] (input + residual)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.features
        self.shuffle = config.shuffle
        self.untouched = config.untouched
        self.head = conv(4 * config.shuffle**2, width)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, config.block_scale(i)) for i in range(config.blocks)
        )
        self.body = conv(width, width)
        self.tail = conv(width, 3 * config.shuffle**2)
        self.depth = config.blocks  # blocks in use; training may start with fewer
        nn.init.zeros_(self.tail.weight)  # so that an untrained net returns its input
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def forward(self, image: Tensor, defocus: Tensor) -> Tensor:
        """[N, 3, H, W], [N, 1, H, W] -> [N, 3, H, W]."""
        given = torch.cat((image, defocus), dim=1)
        features = self.head(F.pixel_unshuffle(given, self.shuffle) if self.shuffle > 1 else given)
        for block in self.blocks[: self.depth]:
            features = block(features)
        residual: Tensor = self.tail(self.body(features))
        whole = F.pixel_shuffle(residual, self.shuffle) if self.shuffle > 1 else residual
        return added(image, whole, defocus, self.untouched)


def added(image: Tensor, residual: Tensor, defocus: Tensor, untouched: float) -> Tensor:
    """The image [N, 3, H, W] and its residual, of which the map [N, 1, H, W] lets nothing through
    up to a blur radius of `untouched` pixels, and all from a pixel more on; 0: all everywhere."""
    if not untouched:
        return image + residual
    return image + residual * (defocus * MAX_RADIUS - untouched).clamp(0, 1)


class DidANet(Deblurrer):
    """Both sub-nets of DID-ANet; see the module's text."""

    max_radius = MAX_RADIUS

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.multiple
        self.halos = _halos(config)
        self.estimator = MapEstimator(config)
        self.restorer = Restorer(config)

    def multiple_of(self, phase: Phase) -> int:
        """See Net: the map comes as it is, so that the deblurrer alone folds."""
        return self.config.shuffle if phase == "restore" else self.multiple

    def phases(self) -> Mapping[Phase, Method]:
        """See Net."""
        return {"whole": self.forward, "estimate": self.estimate, "restore": self.restore}

    def estimate(self, image: Tensor) -> Tensor:
        """Defocus map [N, 1, H, W] of an image [N, 3, H, W]."""
        defocus: Tensor = self.estimator(image)
        return defocus

    def restore(self, image: Tensor, defocus: Tensor) -> Tensor:
        """Sharp image [N, 3, H, W] from an image and its map [N, 1, H, W]."""
        sharp: Tensor = self.restorer(image, defocus)
        return sharp

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> ([N, 3, H, W], [N, 1, H, W]); H, W multiples of `multiple`."""
        defocus = self.estimate(image)
        return self.restore(image, defocus), defocus


def _halos(config: Config) -> dict[Phase, int]:
    """Of the whole: through the farthest pixel of the map that the deblurrer looks at."""
    fold, reach = config.shuffle, 2 * config.blocks + 3
    return {
        "whole": halo_through_map(config, fold, reach),
        "estimate": estimator_halo(config),
        "restore": fold * reach + fold - 1,
    }


def halo_through_map(config: Config, fold: int, reach: int) -> int:
    """Pixels from an output's pixel to the farthest of the image that it sees through the map, of
    which it sees `reach` squares of `fold` pixels around its own."""
    return max(
        _beyond(
            config, pixel, fold * (pixel // fold - reach), fold * (pixel // fold + reach + 1) - 1
        )
        for pixel in range(config.multiple)
    )


def estimator_halo(config: Config) -> int:
    """Pixels from a pixel of the map to the farthest of the image that it sees."""
    return max(_beyond(config, pixel, pixel, pixel) for pixel in range(config.multiple))


def _beyond(config: Config, pixel: int, first: int, last: int) -> int:
    """How far from `pixel` the estimator looks for the map's rows `first` to `last`."""
    first, last = _seen(config, first, last)
    return max(pixel - first, last - pixel)


def _seen(config: Config, first: int, last: int) -> tuple[int, int]:
    """The first and the last row of the image that these rows of the map see, from the output back.

    A row of the map is interpolated from the two samples around it, and a convolution of stride 2
    at row i sees the rows 2i - 1 to 2i + 1.
    """
    scale, reach = config.map_scale, 2 * config.map_blocks + 2
    if scale > 1:
        first, last = (first - scale // 2) // scale, (last + scale // 2) // scale
    first, last = first - reach, last + reach
    if config.map_levels:
        first, last = _seen_wider(config.map_levels, first, last)
    if scale == 1:
        return first - 1, last + 1
    for _ in range(2):
        first, last = 2 * first - 1, 2 * last + 1
    return first, last


def _seen_wider(levels: int, first: int, last: int) -> tuple[int, int]:
    """The same for WiderView: doubled, a convolution and two blocks; one that strides."""
    first, last = (first - 1) // 2 - 3, (last + 1) // 2 + 3
    if levels > 1:
        first, last = _seen_wider(levels - 1, first, last)
    return 2 * (first - 2) - 1, 2 * (last + 2) + 1


def from_public_name(key: str) -> str:
    """This project's name of a parameter of the public code, such as `convRes03b.2.weight`.

    Names of another kind come back unchanged, so that the check of keys can report them.
    """
    layer, _, rest = key.partition(".")
    net = {"a": "estimator", "b": "restorer"}.get(layer[-1:])
    simple = {"conv01": "head", "conv02": "body", "conv03": "tail"}
    if net and layer[:-1] in simple:
        return f"{net}.{simple[layer[:-1]]}.{rest}"
    number, (position, _, kind) = layer[len("convRes") : -1], rest.partition(".")
    if net and layer.startswith("convRes") and number.isdecimal() and position in ("0", "2"):
        part = {"0": "conv1", "2": "conv2"}[position]
        return f"{net}.blocks.{int(number) - 1}.{part}.{kind}"
    return key


def _build(config: Config) -> Deblurrer:
    return DidANet(config)


CONFIGS = {
    "didanet": Config(),
    "didanet-released": Config(map_scale=1, blocks=16, scaled_from=4),
    "didanet-lite": Config(map_features=64, map_levels=2, features=64, untouched=1.0, shuffle=2),
    "didanet-nano": Config(
        map_features=64, map_levels=2, features=32, blocks=8, untouched=1.0, shuffle=2
    ),
    "didanet-tiny": Config(map_features=8, map_blocks=1, features=16, blocks=2),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
