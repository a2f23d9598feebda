"""What every net here offers, so that export, training and benchmarks need not know which it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from allfocus.runtime.catalogue import entry
from allfocus.runtime.spec import Spec
from allfocus.train.models.count import count_macs, count_parameters


class Deblurrer(nn.Module, ABC):
    """A single-image deblurring net.

    `forward(image [N, 3, H, W] in [0, 1]) -> (sharp [N, 3, H, W], defocus [N, 1, H, W])`, where H
    and W are multiples of `multiple`. The map is 0 in focus and 1 at `max_radius` pixels; nets that
    estimate none have a `max_radius` of 0 and return None in its place.
    """

    multiple: int  # pixels
    halo: int  # pixels: radius of the receptive field
    global_context: bool = False
    max_radius: float  # pixels; 0: no map

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Deblur; see the class."""


@dataclass(frozen=True)
class Variant:
    """A name's net: how to build it, and the version of its architecture."""

    name: str
    build: Callable[[], Deblurrer]
    version: int = 1


def describe(
    name: str, net: Deblurrer, *, version: int, weights: str, weights_sha256: str, license: str
) -> Spec:
    """The Spec of `net`, its figures counted from the net itself."""
    side = 16 * net.multiple
    image = torch.zeros(1, 3, side, side, device="meta")
    macs = count_macs(net, image)
    return Spec(
        name=name,
        version=version,
        multiple=net.multiple,
        halo=net.halo,
        global_context=net.global_context,
        color="rgb",
        max_radius=net.max_radius,
        parameters=count_parameters(net),
        macs_per_pixel=macs / side**2,
        weights=weights,
        weights_sha256=weights_sha256,
        license=license,
        paper=entry(name).paper,
    )
