"""didanet-lite: what it costs, and that folding leaves every pixel in its place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from halos import measured
from torch import nn

from allfocus.runtime.catalogue import MODELS
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.count import count_macs, count_parameters
from allfocus.train.models.didanet import MAX_RADIUS, Config, DidANet


def _conv(inputs: int, outputs: int, positions: int) -> tuple[int, int]:
    """Parameters and MACs of a 3x3 convolution with bias at so many output positions."""
    return 9 * inputs * outputs + outputs, 9 * inputs * outputs * positions


def test_lite_costs_what_its_layers_add_up_to() -> None:
    half, quarter, eighth, sixteenth = (200 * 304 // 4**n for n in range(4))
    layers = [_conv(3, 64, half), *[_conv(64, 64, quarter)] * 10, _conv(64, 1, quarter)]
    layers += [*[_conv(64, 64, eighth)] * 6, *[_conv(64, 64, sixteenth)] * 6]
    layers += [_conv(16, 64, half), *[_conv(64, 64, half)] * 25, _conv(64, 12, half)]
    net = build("didanet-lite")
    assert count_parameters(net) == sum(p for p, _ in layers) == 1_754_189
    assert count_macs(net, torch.zeros(1, 3, 400, 608)) == sum(m for _, m in layers)


def test_lite_is_at_least_8_times_cheaper() -> None:
    image = torch.zeros(1, 3, 64, 96)
    assert 8 * count_macs(build("didanet-lite"), image) < count_macs(build("didanet"), image)


@pytest.mark.parametrize("shuffle", [1, 2])
def test_folding_keeps_every_pixel_in_its_place(shuffle: int) -> None:
    """A restorer that carries the picture's channels through, as its residual, doubles it."""
    net = DidANet(Config(map_features=2, map_blocks=1, features=16, blocks=1, shuffle=shuffle))
    restorer = net.restorer
    with torch.no_grad():
        for layer in (restorer.head, restorer.body, restorer.tail):
            assert isinstance(layer, nn.Conv2d)
            layer.weight.zero_()
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            for channel in range(3 * shuffle**2):
                layer.weight[channel, channel, 1, 1] = 1
        image = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
        sharp = net.restore(image, torch.rand(1, 1, 8, 12))
    torch.testing.assert_close(sharp, 2 * image)


def test_the_map_is_folded_too() -> None:
    """Each of its pixels reaches the restorer by itself, not only their mean."""
    net = DidANet(Config(map_features=2, map_blocks=1, features=16, blocks=1, shuffle=2))
    nn.init.ones_(net.restorer.tail.weight)
    image = torch.zeros(1, 3, 4, 4)
    defocus = torch.zeros(1, 1, 4, 4, requires_grad=True)
    net.restore(image, defocus).sum().backward()
    assert defocus.grad is not None
    square = defocus.grad[0, 0, :2, :2].flatten()
    assert len(square.unique()) == 4


@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("map_scale", [1, 4])
def test_with_any_map_it_sees_as_far_as_it_says(map_scale: int, levels: int) -> None:
    config = Config(
        map_scale=map_scale,
        map_features=2,
        map_blocks=1,
        map_levels=levels,
        features=2,
        blocks=1,
        shuffle=2,
    )
    net = DidANet(config)
    assert net.multiple == max(map_scale * 2**levels, 2)
    assert measured(net, MODELS["didanet-lite"].signatures) == net.halos


def test_another_factor_is_refused() -> None:
    with pytest.raises(ValueError, match="shuffle: expected 1, 2 or 4, got 3"):
        Config(shuffle=3)


def test_what_the_map_calls_sharp_stays_as_it_is() -> None:
    net, _ = checkpoint.random("didanet-lite", 0)
    assert isinstance(net, DidANet)
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    defocus = torch.full((1, 1, 16, 16), net.config.untouched / MAX_RADIUS)
    defocus[..., 8:] = (net.config.untouched + 1) / MAX_RADIUS
    with torch.no_grad():
        sharp = net.restore(image, defocus)
        everywhere = DidANet(replace(net.config, untouched=0.0))
        everywhere.load_state_dict(net.state_dict())
        ungated = everywhere.restore(image, defocus)
    assert torch.equal(sharp[..., :8], image[..., :8])
    assert torch.equal(sharp[..., 8:], ungated[..., 8:])
    assert (ungated[..., :8] - image[..., :8]).abs().max() > 1e-3


@pytest.mark.parametrize("value", [-0.5, 8.0])
def test_a_radius_that_leaves_nothing_to_do_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="untouched: expected 0 or more and under 8, got"):
        Config(untouched=value)
