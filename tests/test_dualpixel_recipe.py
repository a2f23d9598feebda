"""The map net's recipe: turns, and its equations with a map that is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from allfocus.runtime.errors import UsageError
from allfocus.train.data import Batch
from allfocus.train.models import build
from allfocus.train.recipe import Options
from allfocus.train.recipes.dualpixel import DualPixelRecipe

PLAN = replace(DualPixelRecipe.paper, total=6)  # 2, 1, 1, 1, 1


def batch() -> Batch:
    sharp = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(sharp * 0.5, sharp, torch.zeros(1, 1, 32, 32), True, sharp, sharp)


def recipe() -> DualPixelRecipe:
    return DualPixelRecipe("dualpixel-map-tiny", build("dualpixel-map-tiny"), PLAN, Options())


def test_net_and_kernels_take_turns() -> None:
    one = recipe()
    assert [one.turns(step)[0] for step in range(6)] == ["map", "map", *["kernels", "map"] * 2]
    assert one.views


def test_a_map_of_zeros_leaves_the_picture_and_is_smooth() -> None:
    one, data = recipe(), batch()
    torch.nn.init.constant_(one.net.scales.tail.bias, -100.0)  # before the sigmoid
    parts = one.losses(0, data, "map")
    assert parts["geometric"].item() == pytest.approx((data.sharp / 2).mean().item())
    assert parts["roughness"].item() == 0


def test_each_turn_teaches_its_own() -> None:
    one, data = recipe(), batch()
    parts = one.losses(2, data, "kernels")
    assert set(parts) == {"geometric"}
    parts["geometric"].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in one.net.parameters())
    assert any(p.grad is not None and p.grad.any() for p in one.kernels.parameters())


def test_data_without_views_is_refused() -> None:
    with pytest.raises(UsageError, match="no dual-pixel views"):
        recipe().check_data("folder", has_map=True, has_sharp=True)
    recipe().check_data("folder", has_map=True, has_sharp=True, has_views=True)
