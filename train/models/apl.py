"""APL: Zhao et al., "United Defocus Blur Detection and Deblurring via Adversarial Promoting
Learning", ECCV 2022. The detection net of `apl_detect` and a deblurring generator G_sr that refers
to the part of the picture that is in focus, as one model.

The map M is 1 where the picture is IN FOCUS. It parts the picture I into I_f = M I and
I_df = (1 - M) I (eq. 4). G_sr works on I_df, and in each UFAT layer the features of I_f and I_df
give two vectors over channels that scale and shift its own: eta F + beta (eq. 5). They are vectors,
since what is in focus lies elsewhere than what is not.

From the paper: two residual convolution blocks with UFAT "recursively inserted", and a global skip.
From its public code: 128 features, batch normalisation, pictures normalised as for ImageNet (here
before they are masked: what is masked out is then 0, the mean colour), and a UFAT layer's parts:
shared convolutions, concatenation, global average pooling, two 1x1 convolutions and a sigmoid for
each vector; the output is the deblurred picture times 1 - M, plus I_f.

Chosen here, where both are silent:
- A block has three convolutions (as "CB" in figure 8), with UFAT after each one's normalisation and
  LeakyReLU(0.2) after that, but for the last, which the block's input is added to.
- The global skip adds I_f + I_df = I. I_df alone would darken a pixel that is half in focus. So the
  output is (I + R)(1 - M) + I M, computed as I + (1 - M) R: exactly I where M is 1. The residual R
  is 0 in a new net, which thereby returns its input.
- Pooling is over the whole picture (the public code's window of 160x160 is its training size).
- The shared convolutions are two of stride 2, as only their mean is wanted. They have no batch
  normalisation: with the paper's batches of one it would set the very mean to a constant.
- A new layer's eta is about 0.9, by a bias of 2, so that six of them do not halve the features six
  times; beta is about 0.1.
- Each mean is taken in float32: float16 ends at 65,504, less than the pixels of a small picture.

The means of all UFAT layers are the `context` [N, 2 * features * layers, 1, 1]. They depend on the
picture and its map alone, so that a first pass gives them and tiles then equal the whole.

`apl-lite` is of this project: G_sr on 4x4 pixels folded into channels, the detection net on 2x2
(its M is doubled). The paper's G_sr sees 8 pixels to each side, too few for a blur radius of 8;
four blocks of 96 on folded pixels see 59, for an eleventh of the work. No batch normalisation, as
in `apl-detect-lite`. The paper reports no parameters and no operations. Counted: 17,858,951
parameters and 434 GMAC at 600x400; lite 7,114,612 and 34.4 GMAC (padded to 608x400).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.kernels.ops import Activation, sft_modulate
from allfocus.runtime.signature import Phase
from allfocus.train.models import apl_detect
from allfocus.train.models.apl_detect import (
    SLOPE,
    AplDetect,
    Normalise,
    folded,
    he_conv,
    normalisation,
)
from allfocus.train.models.base import Deblurrer, Method, Variant

_BLOCK_CONVS = 3
_ETA_START, _BETA_START = 2.0, -2.0  # before the sigmoid: 0.88 and 0.12


@dataclass(frozen=True, kw_only=True)
class Config:
    """Of both nets; `widths` and `convs` are the detection net's."""

    widths: tuple[int, ...] = (64, 128, 256, 512)
    convs: tuple[int, ...] = (2, 2, 3, 3)
    features: int = 128
    blocks: int = 2
    fold: int = 1  # the detection net works on a picture so many times smaller, by pixel-unshuffle
    restorer_fold: int = 1  # and G_sr on one so many times smaller
    norm: bool = True  # batch normalisation in both

    def __post_init__(self) -> None:
        for name in ("features", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.restorer_fold not in (1, 2, 4):
            raise ValueError(f"restorer_fold: expected 1, 2 or 4, got {self.restorer_fold}")
        _ = self.detect  # raises where the rest is wrong

    @property
    def detect(self) -> apl_detect.Config:
        """The detection net's own."""
        return apl_detect.Config(
            widths=self.widths, convs=self.convs, fold=self.fold, norm=self.norm
        )

    @property
    def multiple(self) -> int:
        """Of height and width, in pixels: both folds and the detection net's levels fit."""
        return max(self.detect.multiple, self.restorer_fold)


class Ufat(nn.Module):
    """The unpaired feature affine transformation, eq. 5: eta F + beta."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        self.shared = nn.Sequential(
            he_conv(inputs, features, stride=2, bias=True),
            nn.LeakyReLU(SLOPE),
            he_conv(features, features, stride=2, bias=True),
            nn.LeakyReLU(SLOPE),
        )
        self.eta = _vector(features, _ETA_START)
        self.beta = _vector(features, _BETA_START)

    def context(self, focused: Tensor, defocused: Tensor) -> Tensor:
        """The mean features of I_f and of I_df, both [N, inputs, H, W]: [N, 2 * features, 1, 1]."""
        return torch.cat((_mean(self.shared(focused)), _mean(self.shared(defocused))), dim=1)

    def forward(self, features: Tensor, context: Tensor, activation: Activation) -> Tensor:
        """[N, features, H, W], [N, 2 * features, 1, 1] -> [N, features, H, W]."""
        # a layer may be kept in another precision than its neighbours
        eta, beta = (net(context).to(features.dtype) for net in (self.eta, self.beta))
        return sft_modulate(features, eta, None, beta, activation=activation, slope=SLOPE)


def _vector(features: int, start: float) -> nn.Sequential:
    """Context -> a vector in 0 to 1, about sigmoid(start) in a new net: [N, features, 1, 1]."""
    last = nn.Conv2d(features, features, 1)
    assert last.bias is not None
    nn.init.constant_(last.bias, start)
    first = nn.Conv2d(2 * features, features, 1)
    return nn.Sequential(first, nn.LeakyReLU(SLOPE), last, nn.Sigmoid())


def _mean(x: Tensor) -> Tensor:
    """Over the whole picture, summed in float32 at least: [N, C, H, W] -> [N, C, 1, 1]."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.to(wide).mean((2, 3), keepdim=True).to(x.dtype)


class ResidualBlock(nn.Module):
    """Three times convolution, batch normalisation, UFAT; added to the input."""

    def __init__(self, inputs: int, features: int, *, norm: bool) -> None:
        super().__init__()
        layers = range(_BLOCK_CONVS)
        self.convs = nn.ModuleList(he_conv(features, features, bias=not norm) for _ in layers)
        self.norms = nn.ModuleList(normalisation(features, norm) for _ in layers)
        self.ufats = nn.ModuleList(Ufat(inputs, features) for _ in layers)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """[N, C, H, W] and the contexts of its layers [N, 3 * 2C, 1, 1] -> [N, C, H, W]."""
        branch = x
        for index, part in enumerate(torch.chunk(context, _BLOCK_CONVS, dim=1)):
            activation: Activation = "none" if index == _BLOCK_CONVS - 1 else "leaky_relu"
            branch = self.norms[index](self.convs[index](branch))
            branch = self.ufats[index](branch, part, activation)
        return x + branch


class Restorer(nn.Module):
    """G_sr: image [N, 3, H, W] and focus [N, 1, H, W] -> sharp image [N, 3, H, W]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels = 3 * config.restorer_fold**2
        self.normalise = Normalise()
        self.head = apl_detect.block(channels, config.features, 1, norm=config.norm)
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, config.features, norm=config.norm) for _ in range(config.blocks)
        )
        self.tail = nn.Conv2d(config.features, channels, 3, padding=1)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.weight)  # so that an untrained net returns its input
        nn.init.zeros_(self.tail.bias)

    def context(self, image: Tensor, focus: Tensor) -> Tensor:
        """What every UFAT layer pools over the whole picture: [N, context, 1, 1]."""
        focused, defocused = self._part(image, focus), self._part(image, 1 - focus)
        ufats = [module for module in self.blocks.modules() if isinstance(module, Ufat)]
        return torch.cat([ufat.context(focused, defocused) for ufat in ufats], dim=1)

    def forward(self, image: Tensor, focus: Tensor, context: Tensor) -> Tensor:
        """[N, 3, H, W], [N, 1, H, W], [N, context, 1, 1] -> [N, 3, H, W]."""
        features = self.head(self._part(image, 1 - focus))
        for block, part in zip(self.blocks, torch.chunk(context, len(self.blocks), 1), strict=True):
            features = block(features, part)
        residual = self.tail(features)
        if self.config.restorer_fold > 1:
            residual = F.pixel_shuffle(residual, self.config.restorer_fold)
        sharp: Tensor = image + (1 - focus) * residual
        return sharp

    def _part(self, image: Tensor, share: Tensor) -> Tensor:
        """Eq. 4 on the normalised image, folded: [N, 3 * fold**2, H / fold, W / fold]."""
        part: Tensor = self.normalise(image) * share
        return folded(part, self.config.restorer_fold)


class Apl(Deblurrer):
    """Both nets; see the module's text. Its map is of the focus: 1 is IN FOCUS."""

    max_radius = 0.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.multiple
        self.context = 2 * config.features * _BLOCK_CONVS * config.blocks
        self.detector = AplDetect(config.detect)
        self.restorer = Restorer(config)
        self.halos = _halos(config, self.detector.halo)

    def multiple_of(self, phase: Phase) -> int:
        """See Net: the focus comes as it is, so that the deblurrer alone folds."""
        return self.config.restorer_fold if phase == "restore" else self.multiple

    def phases(self) -> Mapping[Phase, Method]:
        """See Net."""
        return {"whole": self.forward, "estimate": self.estimate, "restore": self.restore}

    def estimate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> focus [N, 1, H, W], 1 = IN FOCUS, and context [N, context, 1, 1]."""
        focus: Tensor = self.detector(image)
        return focus, self.restorer.context(image, focus)

    def restore(self, image: Tensor, focus: Tensor, context: Tensor) -> Tensor:
        """Sharp image [N, 3, H, W] from an image, its focus, and the context of its picture."""
        sharp: Tensor = self.restorer(image, focus, context)
        return sharp

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> sharp [N, 3, H, W], focus [N, 1, H, W]; H, W multiples of `multiple`."""
        focus, context = self.estimate(image)
        return self.restore(image, focus, context), focus


def _halos(config: Config, estimate: int) -> dict[Phase, int]:
    """Of the whole: through the farthest pixel of the map that the restorer looks at."""
    fold, reach = config.restorer_fold, _BLOCK_CONVS * config.blocks + 2
    whole = 0
    for pixel in range(config.multiple):
        first, last = fold * (pixel // fold - reach), fold * (pixel // fold + reach + 1) - 1
        first, last = apl_detect.seen(config.detect, first, last)
        whole = max(whole, pixel - first, last - pixel)
    return {"whole": whole, "estimate": estimate, "restore": fold * reach + fold - 1}


def _build(config: Config) -> Deblurrer:
    return Apl(config)


CONFIGS = {
    "apl": Config(),
    "apl-lite": Config(
        widths=(32, 64, 128, 256), features=96, blocks=4, fold=2, restorer_fold=4, norm=False
    ),
    "apl-tiny": Config(widths=(4, 8, 8), convs=(1, 1, 1), features=8, blocks=1),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
