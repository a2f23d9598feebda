"""Spatial modulation by the defocus map: Ye, Suganuma, Okatani, "Single-image Defocus Deblurring by
Integration of Defocus Map Prediction Tracing the Inverse Problem Computation". A map estimator, a
condition network, and a deblurrer whose features the conditions modulate.

The paper gives the parts but few numbers. As in DID-ANet, on which it builds: the estimator, 12
residual blocks of 128 features at full resolution, and the residual added to the input. Chosen
here: 64 condition features; in a conditioned block the order modulate, convolve, ReLU, modulate,
convolve (Wang et al. 2018, the paper's source of SFT); parameters of a modulation from the
conditions by two 1x1 convolutions with LeakyReLU between and nothing after, such that a new layer
is the identity. The decomposed γ is a vector over channels, from the conditions' mean over the
whole picture, times a map over pixels; β is not decomposed (section 3.3). Counted: 4,843,228
parameters and 1,005 GMAC at 600x400; the paper reports neither.

Since that mean sees the whole picture, `global_context` is true: a tile needs the `context` of the
picture that it is cut from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.kernels.ops import sft_modulate
from allfocus.runtime.signature import Phase
from allfocus.train.models import didanet
from allfocus.train.models.base import Deblurrer, Method, Variant
from allfocus.train.models.didanet import MAX_RADIUS, MapEstimator, added, conv

Modulation = Literal["none", "plain", "decomposed", "both"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Widths and depths. `modulation` is the paper's ablation (table 3).

    none: no modulation, the map is a fourth channel of the input. plain: full γ and β. decomposed:
    γ decomposed, the paper's net. both: β decomposed too.
    """

    map_features: int = 64
    map_blocks: int = 4
    map_levels: int = 0  # further halvings below the map's resolution, as in didanet-lite
    features: int = 128
    blocks: int = 12
    conditions: int = 64
    modulation: Modulation = "decomposed"
    shuffle: int = 1  # the deblurrer works on a picture so many times smaller, by pixel-unshuffle
    untouched: float = 0.0  # blur radius in pixels up to which the picture is left as it is

    def __post_init__(self) -> None:
        for name in ("map_features", "map_blocks", "features", "blocks", "conditions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.modulation not in get_args(Modulation):
            expected = ", ".join(get_args(Modulation))
            raise ValueError(f"modulation: expected one of {expected}, got {self.modulation!r}")
        if self.shuffle not in (1, 2):
            raise ValueError(f"shuffle: expected 1 or 2, got {self.shuffle}")

    @property
    def estimator(self) -> didanet.Config:
        """The map estimator's own."""
        return didanet.Config(
            map_features=self.map_features,
            map_blocks=self.map_blocks,
            map_levels=self.map_levels,
            untouched=self.untouched,
        )

    @property
    def pooled(self) -> bool:
        """Whether anything is averaged over the whole picture."""
        return self.modulation in ("decomposed", "both")


class ConditionNet(nn.Module):
    """Map [N, 1, H, W] -> conditions [N, conditions, H, W], by three convolutions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv(1, features), nn.LeakyReLU(0.1), conv(features, features), nn.LeakyReLU(0.1)
        )
        self.tail = conv(features, features)

    def forward(self, defocus: Tensor) -> Tensor:
        """[N, 1, H, W] -> [N, conditions, H, W]."""
        out: Tensor = self.tail(self.convs(defocus))
        return out


def _head(conditions: int, outputs: int, start: float) -> nn.Sequential:
    """Two 1x1 convolutions that give `start` everywhere until they are trained."""
    last = nn.Conv2d(conditions, outputs, 1)
    assert last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, start)
    return nn.Sequential(nn.Conv2d(conditions, conditions, 1), nn.LeakyReLU(0.1), last)


class Modulate(nn.Module):
    """γ ⊙ F + β (eq. 2), with γ, or γ and β, as a vector over channels and a map over pixels."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        features, conditions = config.features, config.conditions
        self.gamma = _head(conditions, features, 1.0)
        self.beta = _head(conditions, features, 0.0)
        self.gamma_s = _head(conditions, 1, 1.0) if config.pooled else None
        self.beta_s = _head(conditions, 1, 1.0) if config.modulation == "both" else None

    def forward(self, features: Tensor, conditions: Tensor, context: Tensor) -> Tensor:
        """[N, C, H, W], [N, conditions, H, W], their mean [N, conditions, 1, 1] -> [N, C, H, W]."""
        if self.gamma_s is None:
            gamma_s, gamma = None, self.gamma(conditions)
        else:
            gamma_s, gamma = self.gamma_s(conditions), self.gamma(context)
        if self.beta_s is None:
            beta = self.beta(conditions)
        else:
            beta = self.beta(context) * self.beta_s(conditions)
        like = features.dtype  # layers may be kept in another precision than their neighbours
        spatial = None if gamma_s is None else gamma_s.to(like)
        return sft_modulate(features, gamma.to(like), spatial, beta.to(like))


class ConditionedBlock(nn.Module):
    """Modulate, convolve, ReLU, modulate, convolve; added to the input (figure 2).

    The second convolution starts at zero: a new block is the identity.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.modulate1 = Modulate(config) if config.modulation != "none" else None
        self.conv1 = conv(config.features, config.features)
        self.modulate2 = Modulate(config) if config.modulation != "none" else None
        self.conv2 = conv(config.features, config.features)
        nn.init.kaiming_normal_(self.conv1.weight, nonlinearity="relu")
        for parameter in (self.conv1.bias, self.conv2.weight, self.conv2.bias):
            assert parameter is not None
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, conditions: Tensor, context: Tensor) -> Tensor:
        """[N, C, H, W], [N, conditions, H, W], [N, conditions, 1, 1] -> [N, C, H, W]."""
        branch = x if self.modulate1 is None else self.modulate1(x, conditions, context)
        branch = F.relu(self.conv1(branch))
        if self.modulate2 is not None:
            branch = self.modulate2(branch, conditions, context)
        out: Tensor = x + self.conv2(branch)
        return out


class Restorer(nn.Module):
    """Image [N, 3, H, W], map [N, 1, H, W] -> sharp image [N, 3, H, W] (input + residual)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        alone = config.modulation == "none"  # then the map comes in as a channel
        self.condition = None if alone else ConditionNet(config.conditions)
        self.head = conv((4 if alone else 3) * config.shuffle**2, config.features)
        self.blocks = nn.ModuleList(ConditionedBlock(config) for _ in range(config.blocks))
        self.body = conv(config.features, config.features)
        self.tail = conv(config.features, 3 * config.shuffle**2)
        nn.init.zeros_(self.tail.weight)  # so that an untrained net returns its input
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def conditions(self, defocus: Tensor) -> Tensor:
        """Map [N, 1, H, W] -> conditions [N, conditions, H/shuffle, W/shuffle]; zeros without."""
        small = F.avg_pool2d(defocus, self.config.shuffle) if self.config.shuffle > 1 else defocus
        return small if self.condition is None else self.condition(small)

    def forward(self, image: Tensor, defocus: Tensor, context: Tensor | None = None) -> Tensor:
        """[N, 3, H, W], [N, 1, H, W] -> [N, 3, H, W].

        `context` [N, conditions, 1, 1] is the conditions' mean over the whole picture; None: this
        is the whole picture.
        """
        conditions = self.conditions(defocus)
        if context is None:
            context = conditions.mean((2, 3), keepdim=True)
        given = image if self.condition is not None else torch.cat((image, defocus), 1)
        features = self.head(F.pixel_unshuffle(given, self.config.shuffle))
        for block in self.blocks:
            features = block(features, conditions, context)
        residual = F.pixel_shuffle(self.tail(self.body(features)), self.config.shuffle)
        return added(image, residual, defocus, self.config.untouched)


class SftNet(Deblurrer):
    """The three nets together; see the module's text."""

    max_radius = MAX_RADIUS

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.estimator.multiple
        self.context = config.conditions if config.pooled else 0
        self.halos = _halos(config)
        self.estimator = MapEstimator(config.estimator)
        self.restorer = Restorer(config)

    def multiple_of(self, phase: Phase) -> int:
        """See Net: the map comes as it is, so that the deblurrer alone folds."""
        return self.config.shuffle if phase == "restore" else self.multiple

    def phases(self) -> Mapping[Phase, Method]:
        """See Net; the ablations without pooling are not cut in two."""
        if not self.config.pooled:
            return {"whole": self.forward}
        return {"whole": self.forward, "estimate": self.estimate, "restore": self.restore}

    def estimate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> the defocus map [N, 1, H, W], and the context [N, conditions, 1, 1]."""
        defocus: Tensor = self.estimator(image)
        return defocus, self.restorer.conditions(defocus).mean((2, 3), keepdim=True)

    def restore(self, image: Tensor, defocus: Tensor, context: Tensor) -> Tensor:
        """Sharp image [N, 3, H, W] from an image, its map, and the context of its picture."""
        sharp: Tensor = self.restorer(image, defocus, context)
        return sharp

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] -> ([N, 3, H, W], [N, 1, H, W]); H, W multiples of `multiple`."""
        defocus = self.estimator(image)
        return self.restorer(image, defocus), defocus


def _halos(config: Config) -> dict[Phase, int]:
    after = 2 * config.blocks + 2
    before = 1 if config.modulation == "none" else 3
    fold, reach = config.shuffle, before + after
    estimate = didanet.estimator_halo(config.estimator)
    whole = didanet.halo_through_map(config.estimator, fold, reach)
    restore = fold * reach + fold - 1
    halos: dict[Phase, int] = {"whole": whole}
    return {**halos, "estimate": estimate, "restore": restore} if config.pooled else halos


def _build(config: Config) -> Deblurrer:
    return SftNet(config)


CONFIGS = {
    "sftnet": Config(),
    "sftnet-lite": Config(map_levels=2, features=64, conditions=32, shuffle=2, untouched=0.5),
    "sftnet-tiny": Config(map_features=8, map_blocks=1, features=16, blocks=2, conditions=8),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
