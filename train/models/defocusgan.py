"""DefocusGAN's generator: Zhai et al., "Learnable Blur Kernel for Single-Image Defocus Deblurring
in the Wild", AAAI 2023. Image in, sharp image out; a defocus map guides its training only.

Three scales of four branches each, for four ranges of the blur radius; see `guided_blocks` and
`guided_scales` for their layers. In training a branch's output is multiplied by the mask of its
range (eq. 6), by less and less over 20,000 iterations; what is left then, and what is exported, has
no masks at all. The picture is added to the output.

The paper gives neither widths nor the ranges nor the way back from the small scales; its 4.59
million parameters are met by the widths chosen here, which shrink with the scale as it asks.
Counted: 4,607,015 parameters and 185 GMAC at 600x400 (padded to 608x400), of which the large scale
has 92 %. `defocusgan-lite` runs on 2x2 pixels folded, with about half the features: 1,437,620 and
17.9 (padded to 608x416).

It reports PSNR, SSIM, MAE and LPIPS on DPDD: 25.56, 0.786, 0.039, 0.111. Trained with L1 alone,
masks raise PSNR from 25.10 to 25.30 dB, and three scales instead of one to 25.47 (table 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from allfocus.runtime.signature import Phase
from allfocus.train.models import guided_scales
from allfocus.train.models.base import Deblurrer, Method, Variant
from allfocus.train.models.guided_blocks import BRANCHES, MAX_RADIUS
from allfocus.train.models.guided_scales import SCALES, GuidedScales, Masks

ITERATIONS = 20_000  # until the masks are gone


@dataclass(frozen=True, kw_only=True)
class Config(guided_scales.Config):
    """Widths, and the blur radii in pixels at which one branch's range ends and the next begins.

    Small radii are the most frequent ones, so the ranges widen: about 25 * (k / 4)**2.
    """

    bounds: tuple[float, float, float] = (1.5, 6.0, 14.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        edges = (0.0, *self.bounds, MAX_RADIUS)
        if len(edges) != BRANCHES + 1 or any(low >= high for low, high in pairwise(edges)):
            raise ValueError(
                f"bounds: expected 3 rising radii between 0 and {MAX_RADIUS}, got {self.bounds}"
            )


class DefocusGan(Deblurrer):
    """The generator; see the module's text."""

    max_radius = 0.0  # it gives no map

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = config.multiple
        self.context = config.context
        halo = guided_scales.halo(config)
        self.halos = {"whole": halo, "estimate": 0, "restore": halo}  # estimate gives no picture
        self.scales = GuidedScales(config, inputs=3, outputs=3)

    def phases(self) -> Mapping[Phase, Method]:
        """See Net."""
        return {"whole": self.forward, "estimate": self.estimate, "restore": self.restore}

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        """[N, 3, H, W] -> ([N, 3, H, W], None); H, W multiples of `multiple`."""
        return image + self.scales(image), None

    def estimate(self, image: Tensor) -> Tensor:
        """The means [N, context, 1, 1] over a whole picture [N, 3, H, W] that its tiles need."""
        return self.scales.means(image)

    def restore(self, image: Tensor, context: Tensor) -> Tensor:
        """Sharp tile [N, 3, H, W] from a tile and the means of the picture it is cut from."""
        sharp: Tensor = image + self.scales(image, context)
        return sharp

    def guided(self, image: Tensor, defocus: Tensor, mask_weight: float) -> Tensor:
        """Sharp image [N, 3, H, W] from an image and its map [N, 1, H, W], in training.

        The map is 0 in focus and 1 at 25 pixels. `mask_weight` 1: each pixel comes from the branch
        of its radius alone; 0: the map changes nothing, and costs nothing.
        """
        if not 0 <= mask_weight <= 1:
            raise ValueError(f"mask_weight: expected 0 to 1, got {mask_weight}")
        masks = None if mask_weight == 0 else self.masks(defocus, mask_weight)
        sharp: Tensor = image + self.scales(image, masks=masks)
        return sharp

    def masks(self, defocus: Tensor, mask_weight: float) -> Masks:
        """What multiplies the branches at each scale: `1 + mask_weight * (K - 1)`, K from eq. 6."""
        edges = (0.0, *self.config.bounds, float("inf"))
        radii = [F.avg_pool2d(MAX_RADIUS * defocus, scale * self.config.fold) for scale in SCALES]
        return [
            [
                1 + mask_weight * (((radius >= low) & (radius < high)).to(radius.dtype) - 1)
                for low, high in pairwise(edges)
            ]
            for radius in radii
        ]


def mask_weight(iteration: int, iterations: int = ITERATIONS) -> float:
    """The masks' weight in a training's `iteration`, counted from 0: from 1 down to 0, evenly.

    The paper names simulated annealing and the number of iterations, not the curve.
    """
    if iteration < 0 or iterations < 1:
        raise ValueError(
            f"expected an iteration from 0 of at least 1, got {iteration} of {iterations}"
        )
    return max(0.0, 1.0 - iteration / iterations)


def _build(config: Config) -> Deblurrer:
    return DefocusGan(config)


CONFIGS = {
    "defocusgan": Config(),
    "defocusgan-lite": Config(features=(24, 24, 24), deep=(56, 40, 32), fold=2),
    "defocusgan-tiny": Config(features=(8, 8, 8), deep=(12, 8, 8), reduction=4),
}
VARIANTS = {name: Variant(name, _build, c) for name, c in CONFIGS.items()}
