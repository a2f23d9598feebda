"""The losses of the recipes. Images are [N, 3, H, W], maps [N, 1, H, W]; each gives a scalar."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.runtime.errors import UsageError

MEAN_FLOOR = 0.05  # of a map: keeps the weights of a crop that is sharp all over finite
FLOOR = 3e-4  # of a crop's mean squared error in `psnr`: 35 dB
KEPT = 1e-4  # of the same of what is in focus, in `kept`: 40 dB
_LEAST = 0.01  # share of a crop
EPSILON = 1e-3  # of Charbonnier's loss in JDRL
EDGES = (0.5, 1.0, 2.0, 4.0)  # pixels of radius: in focus, and next to it
_ODDS = 2.0  # what the logarithm of the odds of being in focus loses as a radius grows e-fold
_SURE = 1e-6  # from 0 and 1: where the odds end


def absolute(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (given - wanted).abs().mean()


def squares(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean of squared differences."""
    return (given - wanted).square().mean()


def psnr(given: Tensor, wanted: Tensor) -> Tensor:
    """The mean over crops of -PSNR in dB, over 200 so that it compares with the others here.

    What is measured in the end is a mean over pictures of the PSNR, in which a sharp picture that
    is left alone counts as much as a blurred one made sharp. FLOOR bounds it.
    """
    squares = (given - wanted).float().square().mean((1, 2, 3))
    return 10 * (squares + FLOOR).log10().mean() / 200


def kept(given: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """`psnr` of what a mask [N, 1, H, W] of ones and zeros holds alone, bounded by KEPT.

    What is in focus is a part of a picture whose blurred rest has a far greater error; in the whole
    picture's it counts for nothing. Crops of which the mask holds under 1 % count as perfect.
    """
    share = mask.mean((1, 2, 3))
    squares = (mask * (given - wanted)).float().square().mean((1, 2, 3)) / share.clamp(min=_LEAST)
    level = 10 * torch.where(share < _LEAST, KEPT, squares + KEPT).log10()
    return level.mean() / 200


def charbonnier(given: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean of `sqrt((mask * (given - wanted))**2 + EPSILON**2)` (JDRL, eq. 5 and 10).

    In float32: EPSILON**2 is beyond half precision.
    """
    error = (given - wanted).float()
    if mask is not None:
        error = mask * error
    return (error.square() + EPSILON**2).sqrt().mean()


def map_loss(estimated: Tensor, true: Tensor) -> Tensor:
    """DID-ANet, eq. 2: mean absolute error of the defocus map."""
    return absolute(estimated, true)


def cross_entropy(estimated: Tensor, true: Tensor) -> Tensor:
    """Mean binary cross-entropy of a map and the true one, both in [0, 1].

    In float32, where the logarithm of a rounded 0 is bounded (by PyTorch, at -100).
    """
    with torch.autocast(estimated.device.type, enabled=False):
        return F.binary_cross_entropy(estimated.float(), true.float())


def by_edges(estimated: Tensor, radius: Tensor) -> Tensor:
    """Cross-entropy of a map of the focus with the truth, where in focus ends at several radii.

    `estimated` is the probability that `radius`, pixels, is under the first of EDGES. By itself a
    mask of that says nothing of whether a pixel is nearly in focus or far from it, and where half a
    pixel and one look alike, little at all. So the odds are taken to fall as a power of the radius,
    which gives the probability for each edge (proportional odds: McCullagh, "Regression Models for
    Ordinal Data", 1980). The first edge counts as much as all together. Masks, whose radii are 0 or
    beyond the last edge, are learnt as by `cross_entropy`, less surely.
    """
    with torch.autocast(estimated.device.type, enabled=False):
        odds = torch.logit(estimated.float(), _SURE)
        found = [
            F.binary_cross_entropy_with_logits(
                odds + _ODDS * math.log(edge / EDGES[0]), (radius < edge).float()
            )
            for edge in EDGES
        ]
    return (found[0] + torch.stack(found).mean()) / 2


def defocus_weight(estimated: Tensor, offset: float) -> Tensor:
    """DID-ANet, eq. 4: `M / mean(M) + offset`, [N, 1, H, W], the mean over each image; no gradient
    flows through it.

    The net could otherwise lower its loss by lowering the weights.
    """
    defocus = estimated.detach().clamp(min=0)
    mean = defocus.mean(dim=(1, 2, 3), keepdim=True).clamp(min=MEAN_FLOOR)
    return defocus / mean + offset


def weighted_deblur_loss(deblurred: Tensor, sharp: Tensor, weight: Tensor) -> Tensor:
    """DID-ANet, eq. 3: mean of `(weight * (deblurred - sharp))**2`."""
    return (weight * (deblurred - sharp)).square().mean()


def reevaluation_loss(map_of_deblurred: Tensor, map_of_sharp: Tensor) -> Tensor:
    """DID-ANet, eq. 5: mean absolute difference of the maps seen in the output and in the truth."""
    return absolute(map_of_deblurred, map_of_sharp)


def check_choice(given: str, *known: str) -> None:
    """Raise UsageError where a loss was asked for that a recipe does not know; "" is its own."""
    if given and given not in known:
        raise UsageError(f"loss: expected {' or '.join(known)} with this recipe, got {given}")
