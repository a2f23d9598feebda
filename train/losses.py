"""DID-ANet's losses (Ma et al. 2021, section III-C). Images [N, 3, H, W], maps [N, 1, H, W]."""

from __future__ import annotations

from torch import Tensor

MEAN_FLOOR = 0.05  # of a map: keeps the weights of a crop that is sharp all over finite


def map_loss(estimated: Tensor, true: Tensor) -> Tensor:
    """Eq. 2: mean absolute error of the defocus map; a scalar."""
    return (estimated - true).abs().mean()


def defocus_weight(estimated: Tensor, offset: float) -> Tensor:
    """Eq. 4: `M / mean(M) + offset`, the mean over each image; no gradient flows through it.

    The net could otherwise lower its loss by lowering the weights.
    """
    defocus = estimated.detach().clamp(min=0)
    mean = defocus.mean(dim=(1, 2, 3), keepdim=True).clamp(min=MEAN_FLOOR)
    return defocus / mean + offset


def weighted_deblur_loss(deblurred: Tensor, sharp: Tensor, weight: Tensor) -> Tensor:
    """Eq. 3: mean of `(weight * (deblurred - sharp))**2`; a scalar."""
    return (weight * (deblurred - sharp)).square().mean()


def reevaluation_loss(map_of_deblurred: Tensor, map_of_sharp: Tensor) -> Tensor:
    """Eq. 5: mean absolute difference of the maps seen in the output and in the truth; a scalar."""
    return (map_of_deblurred - map_of_sharp).abs().mean()
