"""The registered nets at their own depths, and at widths that a test can afford."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

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
from allfocus.train.models.base import Net


def _thin(
    make: Callable[[Any], Net], configs: Mapping[str, Any], **widths: object
) -> dict[str, Callable[[], Net]]:
    return {name: lambda c=c: make(replace(c, **widths)) for name, c in configs.items()}  # type: ignore[misc]


def _unet(config: jdrl_unet.Config) -> Net:
    return jdrl_unet.JdrlUNet(replace(config, widths=(2,) * len(config.widths)))


def _detect(config: apl_detect.Config) -> Net:
    return apl_detect.AplDetect(replace(config, widths=(2,) * len(config.widths)))


def _apl(config: apl.Config) -> Net:
    return apl.Apl(replace(config, widths=(2,) * len(config.widths), features=2))


THIN: dict[str, Callable[[], Net]] = {
    # `untouched` is left out: it adds no pixel to what is seen, but could hide some
    **_thin(didanet.DidANet, didanet.CONFIGS, map_features=2, features=2, untouched=0.0),
    **_thin(sftnet.SftNet, sftnet.CONFIGS, map_features=2, features=2, conditions=2, untouched=0.0),
    **_thin(_unet, jdrl_unet.CONFIGS),
    **_thin(_detect, apl_detect.CONFIGS),
    **_thin(_apl, apl.CONFIGS),
    **_thin(jdrl_reblur.JdrlReblur, jdrl_reblur.CONFIGS, features=2),
    **_thin(defocusgan.DefocusGan, defocusgan.CONFIGS, features=(1, 1, 1), deep=(1, 1, 1)),
    **_thin(dualpixel_map.DualPixelMap, dualpixel_map.CONFIGS, features=(1, 1, 1), deep=(1, 1, 1)),
}
