"""How checkpoints of the papers' public code differ from this project's, one entry a model.

JDRL's hold the U-Net and the reblurring net side by side, trained on pictures as OpenCV reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from allfocus.train.models import didanet, jdrl_reblur, jdrl_unet

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Public:
    """What the public code calls a model's weights, and what it feeds them.

    Where it leaves pictures in OpenCV's order, `bgr` names the tensors of ours that meet pictures,
    and the axis along which their channels stand in threes.
    """

    rename: Callable[[str], str]  # the public name of a parameter -> ours; others as they are
    part: str = "state_dict"  # of the pickled dict
    bgr: Mapping[str, int] = field(default_factory=dict)

    def named(self, state: Mapping[str, Tensor]) -> State:
        """The tensors under this project's names."""
        return {self.rename(key): tensor for key, tensor in state.items()}

    def in_rgb(self, state: Mapping[str, Tensor]) -> State:
        """The public code's tensors, named as ours and of our shapes, for pictures in RGB."""
        return {
            key: _reversed(tensor, self.bgr[key]) if key in self.bgr else tensor
            for key, tensor in state.items()
        }


def _reversed(tensor: Tensor, axis: int) -> Tensor:
    """The tensor with each three along `axis` turned round."""
    order = torch.arange(tensor.shape[axis]).reshape(-1, 3).flip(1).flatten()
    return tensor.index_select(axis, order)


PUBLIC: dict[str, Public] = {
    "didanet-released": Public(rename=didanet.from_public_name),
    "jdrl-unet": Public(
        rename=jdrl_unet.from_public_name,
        part="G_state_dict",
        bgr={"down.0.0.weight": 1, "tail.weight": 0, "tail.bias": 0},
    ),
    "jdrl-reblur": Public(
        rename=jdrl_reblur.from_public_name,
        part="Reblur_state_dict",
        bgr={"kernels.head.weight": 1, "mix.head.weight": 1},
    ),
}
