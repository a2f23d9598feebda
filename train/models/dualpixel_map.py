"""DefocusGAN's map net: Zhai et al., "Learnable Blur Kernel for Single-Image Defocus Deblurring in
the Wild", AAAI 2023. Two views of a dual-pixel sensor in, the map of the blur radius out (eq. 1).

The radius of the circle of confusion is half the parallax between the views, without its sign; the
map is 1 at 25 pixels, the paper's limit. "For simplicity, a network similar to the defocus
deblurring network is used": the same three scales of four branches, without masks, and a sigmoid,
which keeps the map between 0 and 1. It is trained without true maps, by what the all-in-focus
picture becomes when it is blurred by the map: see `train/blur_kernels.py`.

`dualpixel-map-lite` (ours) folds 2x2 pixels and has half the features: 454,694 parameters and 5.2
GMAC (padded to 608x416).

The paper gives no figures of it. Counted: 4,609,893 parameters and 186 GMAC at 600x400 (padded
to 608x400).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from allfocus.runtime.signature import Phase
from allfocus.train.models import guided_scales
from allfocus.train.models.base import Method, Net, Sigmoid, Variant
from allfocus.train.models.guided_blocks import MAX_RADIUS, Branch, GuidedBlock
from allfocus.train.models.guided_scales import Config, GuidedScales

_START = -1.1  # before the sigmoid: a new net says 0.25 everywhere, 6 pixels
_APART = 16.0  # times as strong as at random a new net sees how the views differ


class DualPixelMap(Net):
    """The map net; see the module's text."""

    max_radius = MAX_RADIUS

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.multiple
        self.context = config.context
        halo = guided_scales.halo(config)
        self.halos = {"whole": halo, "estimate": 0, "restore": halo}  # estimate gives no plane
        self.scales = GuidedScales(config, inputs=6, outputs=1)
        self.output = Sigmoid()
        assert self.scales.tail.bias is not None
        nn.init.constant_(self.scales.tail.bias, _START)
        _set_apart(self.scales)

    def phases(self) -> Mapping[Phase, Method]:
        """See Net."""
        return {"whole": self.forward, "estimate": self.estimate, "restore": self.restore}

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Views [N, 3, H, W] -> map [N, 1, H, W]; H, W multiples of `multiple`."""
        return self._map(self.scales(torch.cat((left, right), dim=1)))

    def estimate(self, left: Tensor, right: Tensor) -> Tensor:
        """The means [N, context, 1, 1] over whole views [N, 3, H, W] that their tiles need."""
        return self.scales.means(torch.cat((left, right), dim=1))

    def restore(self, left: Tensor, right: Tensor, context: Tensor) -> Tensor:
        """Map [N, 1, H, W] of a tile from its views and the means of the whole ones."""
        return self._map(self.scales(torch.cat((left, right), dim=1), context))

    def _map(self, logits: Tensor) -> Tensor:
        defocus: Tensor = self.output(logits)
        return defocus


def _set_apart(scales: GuidedScales) -> None:
    """Have new first layers see above all what differs between the views.

    All that tells how far a point is from focus is a difference of a few hundredths of white.
    Without this the net, trained for 200 steps on true maps, had learnt nothing yet.
    """
    block = scales.blocks[0]
    assert isinstance(block, GuidedBlock)
    for branch in block.branches:
        assert isinstance(branch, Branch)
        weight = branch.enter[0].weight
        assert isinstance(weight, Tensor)
        left, right = weight.detach().chunk(2, dim=1)
        shared, apart = (left + right) / 2, _APART * (left - right) / 2
        with torch.no_grad():
            weight.copy_(torch.cat((shared + apart, shared - apart), dim=1))


def _build(config: Config) -> Net:
    return DualPixelMap(config)


CONFIGS = {
    "dualpixel-map": Config(),
    "dualpixel-map-lite": Config(features=(16, 20, 20), deep=(20, 20, 20), reduction=4, fold=2),
    "dualpixel-map-tiny": Config(features=(8, 8, 8), deep=(12, 8, 8), reduction=4),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
