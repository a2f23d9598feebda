"""JDRL's losses, with a flow that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.train import losses
from allfocus.train.data import Batch
from allfocus.train.models import build
from allfocus.train.recipe import Options
from allfocus.train.recipes.jdrl import JdrlRecipe

PLAN = replace(JdrlRecipe.paper, total=20)  # 3 steps of stage 1


class Still:
    """No displacement; it keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, Tensor]] = []

    def __call__(self, source: Tensor, target: Tensor) -> Tensor:
        self.asked.append((source, target))
        return torch.zeros(len(source), 2, *source.shape[2:])


def batch(**more: Tensor) -> Batch:
    blurry, sharp = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(blurry, sharp, torch.zeros(2, 1, 16, 16), True, **more)


def recipe(flow: Still, **options: bool) -> JdrlRecipe:
    net = build("jdrl-unet-tiny").eval()  # no dropout
    return JdrlRecipe("jdrl-unet-tiny", net, PLAN, Options(**options), flow)


def test_an_epoch_is_the_papers_4830_patches() -> None:
    assert [JdrlRecipe.paper.stage_steps(stage) for stage in (1, 2)] == [
        round(epochs * 4830 / 4) for epochs in (15, 85)
    ]


def test_without_displacement_both_ways_are_charbonniers_loss() -> None:
    flow = Still()
    one, data = recipe(flow), batch()
    parts = one.losses(0, data, "nets")
    output = one.net(data.blurry)[0]
    plain = losses.charbonnier(output, data.sharp).item()
    assert parts["deblur"].item() == pytest.approx(plain, rel=1e-5)
    assert parts["cycle"].item() == pytest.approx(plain, rel=1e-5)
    reblurred = one.reblur(output, data.blurry)[0]
    half = 0.5 * losses.charbonnier(reblurred, data.blurry).item()
    assert parts["reblur"].item() == pytest.approx(half, rel=1e-5)


def test_the_flow_is_of_the_blurry_picture_at_first_then_of_the_output() -> None:
    flow = Still()
    one, data = recipe(flow), batch()
    one.losses(2, data, "nets")
    assert flow.asked[0] == (data.sharp, data.blurry)
    assert flow.asked[1] == (data.blurry, data.sharp)
    one.losses(3, data, "nets")
    torch.testing.assert_close(flow.asked[2][1], one.net(data.blurry)[0])


def test_displaced_truths_are_taken_where_there_are_some() -> None:
    flow = Still()
    moved = torch.rand(2, 3, 16, 16)
    recipe(flow, misaligned=True).losses(0, batch(moved=moved), "nets")
    assert flow.asked[0][0] is moved
    with pytest.raises(UsageError, match="no displaced pictures"):
        recipe(flow, misaligned=True).losses(0, batch(), "nets")


def test_both_nets_learn_and_both_are_saved() -> None:
    one = recipe(Still())
    sum(one.losses(0, batch(), "nets").values(), torch.zeros(())).backward()
    for net in one.saved.values():
        assert all(p.grad is not None for p in net.parameters())
    assert list(one.saved) == ["jdrl-unet-tiny", "jdrl-reblur-tiny"]
    assert list(recipe(Still(), reblur=False).saved) == ["jdrl-unet-tiny"]


def test_crops_under_the_flows_least_size_are_refused() -> None:
    net = build("jdrl-unet-tiny")
    with pytest.raises(UsageError, match=r"crop: expected at least 16 pixels.* got 12; give"):
        JdrlRecipe("jdrl-unet-tiny", net, replace(PLAN, crop=12), Options())
