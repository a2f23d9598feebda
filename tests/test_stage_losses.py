"""The stages' losses of DID-ANet and SFT, and DefocusGAN's weights, on numbers worked out by hand.

Stand-ins for the nets: half the picture's brightness is taken for its map, and a tenth of the map
it is given is added to the picture. So a loss tells which map the deblurrer was given.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from allfocus.train import adversary
from allfocus.train.data import Batch
from allfocus.train.models import build
from allfocus.train.recipe import Options
from allfocus.train.recipes import didanet, recipe_of, sftnet
from allfocus.train.recipes.defocusgan import DefocusGanRecipe
from allfocus.train.recipes.sftnet import SftnetRecipe

near = partial(pytest.approx, rel=1e-5)  # float32


def estimated(image: Tensor) -> Tensor:
    return image[:, :1] / 2


def restored(image: Tensor, guide: Tensor) -> Tensor:
    return image + guide / 10


NET: Any = SimpleNamespace(
    estimate=estimated, restore=restored, estimator=estimated, restorer=restored
)


def batch(*radii: float) -> Batch:
    """A picture of 0.5 and its truth of 0.6, two pixels; the estimated map of it is 0.25."""
    blurry = torch.full((1, 3, 1, 2), 0.5)
    return Batch(blurry, blurry + 0.1, torch.tensor([[[radii]]]), has_map=True)


def values(parts: dict[str, Tensor]) -> dict[str, float]:
    return {name: part.item() for name, part in parts.items()}


def test_did_anet_deblurs_by_the_true_map_first() -> None:
    found = values(didanet.parts(NET, batch(0.5, 0.5), 1, 1 / 9))
    assert found == {
        "deblur": near(0.9 * (10 / 9 * 0.05) ** 2),
        "map": near(0.1 * 0.25),
    }


def test_then_by_the_estimated_one() -> None:
    found = values(didanet.parts(NET, batch(0.5, 0.5), 2, 1 / 9))
    assert found["deblur"] == near(0.9 * (10 / 9 * 0.075) ** 2)
    assert found["map"] == near(0.1 * 0.25)
    plain = values(didanet.parts(NET, batch(0.5, 0.5), 2, None))
    assert plain["deblur"] == near(0.9 * 0.075**2)


def test_at_last_it_asks_the_estimator_about_its_output() -> None:
    found = values(didanet.parts(NET, batch(0.5, 0.5), 3, None))
    assert found == {
        "deblur": near(0.9 * 0.075**2),
        "reevaluation": near(0.2 * (0.3 - 0.525 / 2)),
    }


def test_without_maps_nothing_true_is_used() -> None:
    blind = replace(batch(0.0, 0.0), has_map=False)
    for parts in (didanet.parts(NET, blind, 1, None), sftnet.parts(NET, blind, 1)):
        assert set(parts) == {"deblur"}
    assert values(didanet.parts(NET, blind, 1, None))["deblur"] == near(0.9 * 0.075**2)


def test_sft_compares_by_absolutes() -> None:
    first = values(sftnet.parts(NET, batch(0.5, 0.5), 1))
    assert first == {"deblur": near(0.9 * 0.05), "map": near(0.2 * 0.25)}
    second = values(sftnet.parts(NET, batch(0.5, 0.5), 2))
    assert second == {"deblur": near(0.9 * 0.075), "map": near(0.2 * 0.25)}


def test_sft_weighs_by_the_true_map_at_last() -> None:
    found = values(sftnet.parts(NET, batch(0.25, 0.75), 3))
    squares = ((0.5 * 0.075) ** 2 + (1.5 * 0.075) ** 2) / 2
    assert found == {
        "deblur": near(0.9 * 0.075),
        "weighted": near(0.1 * squares),
    }


def test_sft_leaves_its_estimator_as_it_is_in_stage_3_alone() -> None:
    net = build("sftnet-tiny")
    plan = replace(SftnetRecipe.paper, epochs=(1, 1, 1), total=3)
    one = recipe_of("sftnet-tiny", net)("sftnet-tiny", net, plan, Options())

    def learns() -> set[bool]:
        return {p.requires_grad for name, p in net.named_parameters() if "estimator" in name}

    for step, wanted in enumerate((True, True, False)):
        one.prepare(step)
        assert learns() == {wanted}
    one.finish()
    assert learns() == {True}


def test_defocusgan_weighs_what_looks_and_what_judges() -> None:
    net = build("defocusgan-tiny")
    one = DefocusGanRecipe("defocusgan-tiny", net, DefocusGanRecipe.paper, Options())
    looks: Any = _Looks()
    one.perceptual = looks
    blurry = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    given = Batch(blurry, blurry + 0.25, torch.full((1, 1, 64, 64), 0.5), has_map=True)
    found = values(one._generators(given, blurry))
    weight = adversary.patch_weight(given.defocus, one.critic.stride)
    score = adversary.score(one.critic, blurry, weight).mean().item()
    assert found == {
        "content": near(0.25),
        "perceptual": near(0.012 * 7),
        "adversarial": near(-0.002 * score),
    }


class _Looks:
    """In place of VGG19: seven, whatever it is shown."""

    def to(self, _: torch.device) -> None: ...

    def __call__(self, *_: Tensor) -> Tensor:
        return torch.tensor(7.0)
