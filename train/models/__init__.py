"""The registry of nets: one file a system, one line here.

Names and summaries stand in `allfocus.runtime.catalogue`, which needs no torch.
"""

from __future__ import annotations

from allfocus.runtime.catalogue import entry
from allfocus.train.models import (
    apl,
    apl_detect,
    defocusgan,
    didanet,
    dualpixel_map,
    jdrl_reblur,
    jdrl_unet,
    sftnet,
)
from allfocus.train.models.base import Changes, Net, Variant

_VARIANTS: dict[str, Variant] = {
    **didanet.VARIANTS,
    **sftnet.VARIANTS,
    **jdrl_unet.VARIANTS,
    **apl_detect.VARIANTS,
    **apl.VARIANTS,
    **jdrl_reblur.VARIANTS,
    **defocusgan.VARIANTS,
    **dualpixel_map.VARIANTS,
}


def variant(name: str) -> Variant:
    """The registered variant `name`; raises UnknownModelError with the nearest names."""
    return _VARIANTS[entry(name).name]


def build(name: str, changes: Changes | None = None) -> Net:
    """A new net with freshly initialised weights, `changes` as in `Variant.build`."""
    return variant(name).build(changes)


def names() -> tuple[str, ...]:
    """All registered names."""
    return tuple(_VARIANTS)
