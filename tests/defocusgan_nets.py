"""DefocusGAN's generator with weights that hide nothing, and a picture for it."""

from __future__ import annotations

import torch
from torch import Tensor

from allfocus.train.models.defocusgan import CONFIGS, Config, DefocusGan

TINY = CONFIGS["defocusgan-tiny"]


def drawn(config: Config = TINY) -> DefocusGan:
    """A net with random weights in every layer, in float64."""
    torch.manual_seed(0)
    net = DefocusGan(config).double().eval()
    for parameter in net.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, height, width, dtype=torch.float64, generator=generator)
