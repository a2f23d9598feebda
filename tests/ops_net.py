"""A small net that uses both operations of `allfocus.kernels`, for exports and engines."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from allfocus.kernels.ops import isotropic_conv, sft_modulate
from allfocus.kernels.taps import seed_count
from allfocus.runtime.spec import Spec
from allfocus.train.checkpoint import random
from allfocus.train.models.base import Deblurrer

LEVELS = 4
NAMES = ("IsotropicConv", "SftModulate", "SftModulate", "SftModulate", "IsotropicConv")


class OpsNet(Deblurrer):
    """Every form of sft_modulate that a graph tells apart, between two isotropic_convs."""

    multiple, halos, max_radius = 2, {"whole": 2 * (LEVELS - 1) + 2}, 8.0

    def __init__(self) -> None:
        super().__init__()
        self.seeds = nn.Conv2d(3, seed_count(LEVELS), 3, padding=1)
        self.weights = nn.Conv2d(3, LEVELS, 3, padding=1)
        self.channels = nn.Conv2d(3, 3, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Reblur, modulate in three ways, reblur again."""
        seeds = 4 * self.seeds(image)
        weights = torch.softmax(self.weights(image), 1)
        blurred = isotropic_conv(image, seeds, weights)
        gamma_c, gamma_s = self.channels(image).mean((2, 3), keepdim=True), weights[:, :1]
        features = sft_modulate(blurred, gamma_c, gamma_s, image, activation="leaky_relu")
        features = sft_modulate(features, gamma_c, None, gamma_c, activation="relu")
        features = sft_modulate(features, self.channels(image), None, features)
        return image + isotropic_conv(features, seeds, weights) / 4, gamma_s


def ops_net() -> tuple[OpsNet, Spec]:
    """The net with its own weights, always the same, and a Spec for it."""
    torch.manual_seed(3)
    _, spec = random("didanet-tiny", 0)
    return OpsNet().eval(), replace(spec, multiple=OpsNet.multiple, halo=OpsNet.halos["whole"])
