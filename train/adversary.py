"""Losses against a discriminator: DefocusGAN's critic of patches, and APL's judge of pictures."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.train.losses import defocus_weight

PENALTY = 10.0  # of WGAN-GP's gradient term (Gulrajani et al. 2017)
_SMALLEST = 1e-12  # keeps the square root's slope finite where a gradient is 0

Critic = Callable[[Tensor], Tensor]


def patch_weight(defocus: Tensor, side: int) -> Tensor:
    """phi of DefocusGAN's eq. 7: how much each patch's score weighs, [N, 1, H/side, W/side].

    The paper says: the more, the larger the radius. Here in proportion to the map's [N, 1, H, W]
    mean over the patch, and 1 on the average over a picture that is blurred: by 0.05 of the map's
    range or more (MEAN_FLOOR); of what is blurred less, less.
    """
    return defocus_weight(F.avg_pool2d(defocus, side), 0.0)


def score(critic: Critic, pictures: Tensor, weight: Tensor) -> Tensor:
    """Each picture's mean score, its patches weighted, [N]; in float32."""
    return (weight * critic(pictures).float()).mean((1, 2, 3))


def critic_loss(critic: Critic, real: Tensor, fake: Tensor, weight: Tensor) -> Tensor:
    """WGAN: how much higher the critic scores the fakes; a scalar, to be lowered."""
    return (score(critic, fake, weight) - score(critic, real, weight)).mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, weight: Tensor) -> Tensor:
    """WGAN-GP: the mean of (|gradient of the score| - 1)**2 at random places between both; a
    scalar. In float32: it is differentiated twice.
    """
    with torch.autocast(real.device.type, enabled=False):
        share = torch.rand(len(real), 1, 1, 1, device=real.device)
        between = torch.lerp(real.float(), fake.float(), share).requires_grad_()
        total = score(critic, between, weight.float()).sum()
        (slope,) = torch.autograd.grad(total, between, create_graph=True)
        length = (slope.square().sum((1, 2, 3)) + _SMALLEST).sqrt()
        scored = weight.flatten(1).any(1)  # a crop that is sharp all over has no score, nor slope
        return torch.where(scored, (length - 1).square(), 0.0).mean()


def says(logits: Tensor, answer: float) -> Tensor:
    """Mean cross-entropy of a judge's logits with one answer, 1: real; a scalar (APL, eq. 6)."""
    return F.binary_cross_entropy_with_logits(
        logits.float(), torch.full_like(logits.float(), answer)
    )
