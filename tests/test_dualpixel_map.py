"""The map net for the views of a dual-pixel sensor: what it gives, its phases, its training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.train.blur_kernels import BlurKernels, map_objective
from allfocus.train.blur_kernels import Config as KernelConfig
from allfocus.train.checkpoint import random
from allfocus.train.models import build
from allfocus.train.models.base import Net
from allfocus.train.models.count import count_macs, count_parameters
from allfocus.train.models.dualpixel_map import CONFIGS, DualPixelMap
from allfocus.train.models.matching import planes


def drawn() -> Net:
    return random("dualpixel-map-tiny", 0)[0].double().eval()


def views(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    left = torch.rand(1, 3, height, width, dtype=torch.float64, generator=generator)
    return left, left.roll(3, 3)


def test_it_costs_what_the_deblurrer_does_but_for_its_ends() -> None:
    deblurrer, net = build("defocusgan"), build("dualpixel-map")
    entering, leaving = 4 * 9 * 32, 9 * 32 + 1  # a channel more in front, and one less behind
    assert count_parameters(net) == count_parameters(deblurrer) + 3 * entering - 2 * leaving
    view = torch.zeros(1, 3, 32, 48)
    added = (3 * 4 * 9 * 32 - 2 * 9 * 32) * 32 * 48
    assert count_macs(net, view, view) == count_macs(deblurrer, view) + added


@pytest.mark.parametrize("name", CONFIGS)
def test_a_new_net_gives_one_small_radius_everywhere(name: str) -> None:
    left, right = (view.float() for view in views(32, 64))
    net = build(name).eval()
    with torch.no_grad():
        (defocus,) = net.run("whole", left, right)
    assert defocus.shape == (1, 1, 32, 64)
    assert float(defocus.std()) == 0
    assert 5 < net.max_radius * float(defocus.mean()) < 7  # pixels


def test_the_map_stays_between_0_and_1() -> None:
    left, right = views(32, 48)
    net = drawn()
    with torch.no_grad():
        (defocus,) = net.run("whole", 100 * left, -100 * right)
    assert 0 <= defocus.min() < defocus.max() <= 1


@pytest.mark.parametrize("name", CONFIGS)
def test_a_new_net_looks_at_what_differs_between_the_views(name: str) -> None:
    """What they share is there 16 times as weakly."""
    torch.manual_seed(0)
    left = torch.rand(1, 3, 32, 64)
    net = build(name)
    assert isinstance(net, DualPixelMap)
    folded = net.scales.fold
    enter = net.scales.blocks[0].branches[0].enter[0]  # type: ignore[index, union-attr]

    def seen(right: Tensor) -> float:
        both = F.pixel_unshuffle(torch.cat((left, right), dim=1), folded)
        weight = enter.weight[:, : both.shape[1]]  # after these: how well the views match
        return float(F.conv2d(both, weight).detach().std())

    assert 8 < seen(-left) / seen(left) < 32


def test_the_lite_net_is_told_how_well_the_views_match() -> None:
    net = build("dualpixel-map-lite")
    assert isinstance(net, DualPixelMap)
    enter = net.scales.blocks[0].branches[0].enter[0]  # type: ignore[index, union-attr]
    assert enter.weight.shape[1] == 2 * 3 * 4 + planes(8)
    with pytest.raises(UsageError, match="shifts: expected at least 0, got -1"):
        build("dualpixel-map-lite", {"shifts": -1})


def test_it_tells_left_from_right() -> None:
    left, right = views(32, 48)
    net = drawn()
    with torch.no_grad():
        (there,), (back,) = net.run("whole", left, right), net.run("whole", right, left)
    assert (there - back).abs().max() > 1e-4


def test_a_tile_with_its_halo_and_the_pictures_context_equals_the_whole() -> None:
    net = drawn()
    margin = -(-net.halo // 16) * 16
    whole = views(48 + 2 * margin, 32)
    core = slice(margin + 16, margin + 32)
    part = [view[:, :, core.start - margin : core.stop + margin] for view in whole]
    with torch.no_grad():
        (expected,), (context,) = net.run("whole", *whole), net.run("estimate", *whole)
        (tile,), (alone,) = net.run("restore", *part, context), net.run("whole", *part)
    expected = expected[:, :, core]
    torch.testing.assert_close(tile[:, :, margin:-margin], expected, rtol=0, atol=1e-10)
    assert (alone[:, :, margin:-margin] - expected).abs().max() > 1e-8  # the context is needed


def test_a_step_of_training_through_the_kernels_reaches_every_parameter() -> None:
    """The paper's way: views -> map -> the all-in-focus picture blurred by it -> eq. 5."""
    net = random("dualpixel-map-tiny", 0)[0].train()
    kernels = BlurKernels(KernelConfig())
    sharp, blurry = (view.float() for view in views(32, 48))
    optimizer = torch.optim.Adam(net.parameters(), 2e-5)
    losses = []
    for _ in range(2):
        (defocus,) = net.run("whole", sharp, blurry)
        radius = net.max_radius * defocus
        loss = torch.stack([*map_objective(kernels(sharp, radius), blurry, radius).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]
