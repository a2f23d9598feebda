"""DefocusGAN's map net: Zhai et al., "Learnable Blur Kernel for Single-Image Defocus Deblurring in
the Wild", AAAI 2023. Two views of a dual-pixel sensor in, the map of the blur radius out (eq. 1).

The radius of the circle of confusion is half the parallax between the views, without its sign; the
map is 1 at 25 pixels, the paper's limit. "For simplicity, a network similar to the defocus
deblurring network is used": the same three scales of four branches, without masks, and a sigmoid,
which keeps the map between 0 and 1. It is trained without true maps, by what the all-in-focus
picture becomes when it is blurred by the map: see `train/blur_kernels.py`.

`dualpixel-map-lite` (ours) folds 2x2 pixels and has half the features. It is also told how well the
views match when one is shifted by -16 to 16 pixels in steps of 2 (`matching.py`), without which it
learns several times as slowly: 474,278 parameters and 6.5 GMAC (padded to 608x416).

The paper gives no figures of it. Counted: 4,609,893 parameters and 186 GMAC at 600x400 (padded
to 608x400).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.runtime.signature import Phase
from allfocus.train.models import guided_scales, matching
from allfocus.train.models.base import Method, Net, Sigmoid, Variant
from allfocus.train.models.guided_blocks import MAX_RADIUS, Branch, GuidedBlock
from allfocus.train.models.guided_scales import Config, GuidedScales

_START = -1.1  # before the sigmoid: a new net says 0.25 everywhere, 6 pixels
_APART = 16.0  # times as strong as at random a new net sees how the views differ


@dataclass(frozen=True, kw_only=True)
class ViewsConfig(Config):
    """Widths, and how far the views are shifted to be compared."""

    shifts: int = 0  # folded pixels each way; 0: they are not compared

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shifts < 0:
            raise ValueError(f"shifts: expected at least 0, got {self.shifts}")

    @property
    def beside(self) -> int:
        """Planes that tell how well the views match."""
        return matching.planes(self.shifts) if self.shifts else 0

    @property
    def farther(self) -> int:
        """Pixels that the net sees farther for them."""
        return self.fold * matching.reach(self.shifts) if self.shifts else 0


class DualPixelMap(Net):
    """The map net; see the module's text."""

    max_radius = MAX_RADIUS

    def __init__(self, config: ViewsConfig) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.multiple
        self.context = config.context
        halo = guided_scales.halo(config) + config.farther
        self.halos = {"whole": halo, "estimate": 0, "restore": halo}  # estimate gives no plane
        self.scales = GuidedScales(config, inputs=6, outputs=1, beside=config.beside)
        self.output = Sigmoid()
        assert self.scales.tail.bias is not None
        nn.init.constant_(self.scales.tail.bias, _START)
        _set_apart(self.scales)

    def phases(self) -> Mapping[Phase, Method]:
        """See Net."""
        return {"whole": self.forward, "estimate": self.estimate, "restore": self.restore}

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Views [N, 3, H, W] -> map [N, 1, H, W]; H, W multiples of `multiple`."""
        return self.restore(left, right)

    def estimate(self, left: Tensor, right: Tensor) -> Tensor:
        """The means [N, context, 1, 1] over whole views [N, 3, H, W] that their tiles need."""
        views = torch.cat((left, right), dim=1)
        return self.scales.means(views, beside=self._matching(left, right))

    def restore(self, left: Tensor, right: Tensor, context: Tensor | None = None) -> Tensor:
        """Map [N, 1, H, W] of a tile from its views and the means of the whole ones."""
        views = torch.cat((left, right), dim=1)
        logits = self.scales(views, context, beside=self._matching(left, right))
        defocus: Tensor = self.output(logits)
        return defocus

    def _matching(self, left: Tensor, right: Tensor) -> Tensor | None:
        fold, shifts = self.config.fold, self.config.shifts
        if not shifts:
            return None
        left, right = (F.pixel_unshuffle(view, fold) for view in (left, right))
        return matching.matching(left, right, shifts)


def _set_apart(scales: GuidedScales) -> None:
    """Have new first layers see above all what differs between the views.

    All that tells how far a point is from focus is a difference of a few hundredths of white.
    Without this the net, trained for 200 steps on true maps, had learnt nothing yet.
    """
    block, channels = scales.blocks[0], 3 * scales.fold**2  # of one view
    assert isinstance(block, GuidedBlock)
    for branch in block.branches:
        assert isinstance(branch, Branch)
        weight = branch.enter[0].weight
        assert isinstance(weight, Tensor)
        views = weight.detach()[:, : 2 * channels]
        left, right = views.chunk(2, dim=1)
        shared, apart = (left + right) / 2, _APART * (left - right) / 2
        with torch.no_grad():
            views.copy_(torch.cat((shared + apart, shared - apart), dim=1))


def _build(config: ViewsConfig) -> Net:
    return DualPixelMap(config)


CONFIGS = {
    "dualpixel-map": ViewsConfig(),
    "dualpixel-map-lite": ViewsConfig(
        features=(16, 20, 20), deep=(20, 20, 20), reduction=4, fold=2, shifts=8
    ),
    "dualpixel-map-tiny": ViewsConfig(features=(8, 8, 8), deep=(12, 8, 8), reduction=4),
}
_VERSIONS = {"dualpixel-map-lite": 2}  # 1 did not compare the views
VARIANTS = {
    name: Variant(name, _build, config, _VERSIONS.get(name, 1)) for name, config in CONFIGS.items()
}
