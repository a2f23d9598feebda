"""JDRL's reblurring net: Li et al., "Learning Single Image Defocus Deblurring with Misaligned
Training Pairs", AAAI 2023. A sharp picture and the blurry one it should become: it predicts for
each pixel isotropic kernels of 8 sizes and how to mix them, and blurs the sharp picture with them.

Two nets see both pictures, sharp first: one gives the seeds of the kernels (eq. 6, 7), the other
the shares of the levels (eq. 8), of which level 1 is the sharp picture itself; eq. 9 adds them up.
Figure 3 draws basic convolutions and residual blocks. As in the public code: a convolution to 64
features without activation, 3 residual blocks without normalisation, a convolution. Counted:
474,987 parameters and 114.5 GMAC at 600x400, of which the isotropic convolution, 680 taps a pixel
and channel, is 0.49; the paper reports neither. `jdrl-reblur-tiny` is ours.

Chosen here is how a new net starts: with 0.9 of the picture itself in every mix, and kernels near
discs. So it begins near the identity, and no seed at the kink of its absolute value, where it would
get no gradient.

In training, the blurred picture is compared with the blurry one, such that a deblurred picture is
held in its place. At run time it says whether a result, blurred again, explains its input.

The map `defocus` is the mean distance from the centre under a pixel's mixed kernel, the sum over
levels and elements of share x kernel value x distance, in units of m - 1 = 7 pixels: 0 where the
pixel is left as it is, and never over 1. It is not the radius of a disc, which lies higher: a
uniform disc of radius R has the mean distance 2R/3, so 1.5 x 7 x `defocus` pixels is the radius of
the disc with the same mean distance. The mean is what the kernels say whatever their form; and a
ring, which has its radius as mean distance, would be taken for too large a disc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.kernels.ops import isotropic_conv
from allfocus.kernels.taps import LEVELS, seed_count, seed_slice, taps
from allfocus.runtime.signature import Phase
from allfocus.train.models.base import Net, Variant
from allfocus.train.models.didanet import ResidualBlock, conv

_KEPT = 0.9  # share of the picture itself in a new net's mix
_DISC = 3.0  # seeds of a new net: elements within the disc weigh exp(3) times those in the corners
_VARIED = 40.0  # gain of the tails of a net with random weights


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of both sub-nets."""

    levels: int = LEVELS  # m: kernels of 1, 3, ... 2m-1 pixels
    features: int = 64
    blocks: int = 3

    def __post_init__(self) -> None:
        if self.levels < 3:  # with 2, the corners would let `defocus` exceed 1
            raise ValueError(f"levels: expected at least 3, got {self.levels}")
        for name in ("features", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


class Predictor(nn.Module):
    """Both pictures [N, 6, H, W] -> [N, outputs, H, W]."""

    def __init__(self, config: Config, outputs: int) -> None:
        super().__init__()
        width = config.features
        self.head = conv(6, width)
        self.blocks = nn.Sequential(*(ResidualBlock(width, 1.0) for _ in range(config.blocks)))
        self.tail = conv(width, outputs)

    def forward(self, pictures: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.tail(self.blocks(self.head(pictures)))
        return out


class Blur(nn.Module):
    """`isotropic_conv` as a layer, whose work is counted."""

    def forward(self, image: Tensor, seeds: Tensor, shares: Tensor) -> Tensor:
        """[N, 3, H, W], [N, 2+...+m, H, W], [N, m, H, W] -> [N, 3, H, W]."""
        like = image.dtype  # a layer may be kept in another precision than its neighbours
        return isotropic_conv(image, seeds.to(like), shares.to(like))

    def macs(self, image: Tensor, seeds: Tensor, shares: Tensor) -> int:  # noqa: ARG002
        """One for each element of each level's kernel, pixel and channel."""
        return image.numel() * sum((2 * i - 1) ** 2 for i in range(1, shares.shape[1] + 1))


class MeanRadius(nn.Module):
    """Seeds [N, 2+...+m, H, W], shares [N, m, H, W] -> mean distance [N, 1, H, W], 1 at m-1 pixels.

    Elements of a kernel are equal in rings, so a level's softmax is taken over its rings, each
    weighing as many elements as it has. No exponential exceeds 1, and the sum of all is at least 1.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels
        for level in range(2, levels + 1):
            values, sums = _ring_matrices(level, levels - 1.0)
            self.register_buffer(f"values{level}", values, persistent=False)
            self.register_buffer(f"sums{level}", sums, persistent=False)

    def forward(self, seeds: Tensor, shares: Tensor) -> Tensor:
        """See the class. Level 1 is the centre alone, at distance 0."""
        radii = (self._radius(seeds, level) for level in range(2, self.levels + 1))
        return (shares[:, 1:] * torch.cat(list(radii), 1)).sum(1, keepdim=True)

    def _radius(self, seeds: Tensor, level: int) -> Tensor:
        """The mean distance under one level's kernel, [N, 1, H, W]."""
        radial = seeds[:, seed_slice(level)].abs()
        highest = radial.amax(1, keepdim=True)  # each seed is an element, and none exceeds it
        raised = torch.exp(F.conv2d(radial, self.get_buffer(f"values{level}")) - highest)
        total, far = F.conv2d(raised, self.get_buffer(f"sums{level}")).chunk(2, 1)
        return far / total

    def macs(self, seeds: Tensor, shares: Tensor) -> int:  # noqa: ARG002
        """Those of the two matrices of each level, at every pixel."""
        pixels = shares.numel() // self.levels
        return pixels * sum(len(taps(i)) * (i + 2) for i in range(2, self.levels + 1))


def _ring_matrices(level: int, unit: float) -> tuple[Tensor, Tensor]:
    """As 1x1 filters: rings from seeds (eq. 7), and from rings the sums over their elements of 1
    and of the distance in units of `unit` pixels.
    """
    values, sums = torch.zeros(len(taps(level)), level), torch.zeros(2, len(taps(level)))
    for ring, tap in enumerate(taps(level)):
        if tap.inner is not None:
            values[ring, tap.inner] = 1 - tap.fraction
        if tap.inner is not None and tap.fraction:
            values[ring, tap.inner + 1] = tap.fraction
        elements = len(tap.offsets)
        sums[:, ring] = torch.tensor([elements, elements * math.hypot(tap.dy, tap.dx) / unit])
    return values[:, :, None, None], sums[:, :, None, None]


class JdrlReblur(Net):
    """The reblurring net; see the module's text."""

    multiple = 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.max_radius = config.levels - 1.0
        self.halos: dict[Phase, int] = {"whole": max(config.levels - 1, 2 * config.blocks + 2)}
        self.kernels = Predictor(config, seed_count(config.levels))
        self.mix = Predictor(config, config.levels)
        self.blur = Blur()
        self.radius = MeanRadius(config.levels)
        assert self.kernels.tail.bias is not None
        assert self.mix.tail.bias is not None
        nn.init.constant_(self.kernels.tail.bias, _DISC)
        nn.init.zeros_(self.mix.tail.bias)
        with torch.no_grad():  # of a softmax: the picture against m-1 others
            self.mix.tail.bias[0] = math.log((config.levels - 1) * _KEPT / (1 - _KEPT))

    def draw(self, generator: torch.Generator) -> None:
        """See Net. The last filters sum up to 0 over their 3x3 pixels: on the average all levels
        take part alike, and at edges kernels and shares differ from pixel to pixel.
        """
        super().draw(generator)
        with torch.no_grad():
            self.mix.tail.bias[0] = 0  # type: ignore[index]
            for tail in (self.kernels.tail, self.mix.tail):
                tail.weight -= tail.weight.mean((2, 3), keepdim=True)
                tail.weight *= _VARIED

    def predict(self, sharp: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Seeds [N, 2+...+m, H, W] and shares [N, m, H, W] for two pictures [N, 3, H, W]."""
        pictures = torch.cat((sharp, blurry), 1)
        return self.kernels(pictures), torch.softmax(self.mix(pictures), 1)

    def forward(self, sharp: Tensor, blurry: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N, 3, H, W] -> reblurred [N, 3, H, W], defocus [N, 1, H, W]; of any size."""
        seeds, shares = self.predict(sharp, blurry)
        return self.blur(sharp, seeds, shares), self.radius(seeds, shares)


_PUBLIC_LAYERS = {  # of the public code, within a sub-net
    "conv_first": "head",
    **{f"block{n}.conv{c}": f"blocks.{n - 1}.conv{c}" for n in (1, 2, 3) for c in (1, 2)},
    "out": "tail",
}


def from_public_name(key: str) -> str:
    """This project's name of a parameter of the public code, such as `kpn.block1.conv2.weight`.

    Names of another kind come back unchanged, so that the check of keys can report them.
    """
    net, _, rest = key.partition(".")
    layer, _, kind = rest.rpartition(".")
    part = {"kpn": "kernels", "kernel_map_gene": "mix"}.get(net)
    known = part and layer in _PUBLIC_LAYERS
    return f"{part}.{_PUBLIC_LAYERS[layer]}.{kind}" if known else key


def _build(config: Config) -> Net:
    return JdrlReblur(config)


CONFIGS = {
    "jdrl-reblur": Config(),
    "jdrl-reblur-tiny": Config(levels=4, features=8, blocks=1),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
