"""DefocusGAN's generator: its cost, its parts, its tiles, its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from defocusgan_nets import drawn, picture
from torch import nn

from allfocus.runtime.errors import CheckpointError
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.count import count_macs, count_parameters
from allfocus.train.models.defocusgan import CONFIGS, Config, DefocusGan
from allfocus.train.models.guided_blocks import Branch, Means, Rcab

PAPER = 4.59e6  # parameters, table 1


def conv(inputs: int, outputs: int, positions: int, side: int = 3) -> tuple[int, int]:
    """Parameters and MACs of a convolution with bias at so many output positions."""
    weights = side * side * inputs * outputs
    return weights + outputs, weights * positions


def block(inputs: int, width: int, deep: int, positions: int) -> list[tuple[int, int]]:
    """A defocus-guided block: four branches of eight layers, with 0, 1, 2 and 3 RCABs."""
    quarter, hidden = positions // 4, deep // 8
    layers = []
    for attentive in range(4):
        layers += [conv(inputs, width, positions), conv(width, width, positions)]
        layers += [conv(width, deep, quarter), *[conv(deep, deep, quarter)] * (3 - attentive)]
        rcab = [
            *[conv(deep, deep, quarter)] * 2,
            conv(deep, hidden, 1, 1),
            conv(hidden, deep, 1, 1),
        ]
        layers += [*(attentive * rcab), conv(deep + width, width, positions)]
        layers += [conv(width, width, positions)]
    return layers


def test_defocusgan_costs_what_its_layers_add_up_to() -> None:
    full = 400 * 608
    layers = block(3, 32, 104, full) + block(40, 40, 80, full // 16) + block(40, 40, 56, full // 64)
    layers += [conv(32, 40, full // 16, 4), conv(40, 40, full // 64, 2)]  # down
    layers += [conv(40, 160, full // 64, 1), conv(40, 512, full // 16, 1)]  # up
    layers += [conv(32, 32, full), conv(32, 3, full)]
    net = build("defocusgan")
    assert count_parameters(net) == sum(p for p, _ in layers) == 4_607_015
    assert count_macs(net, torch.zeros(1, 3, 400, 608)) == sum(m for _, m in layers)


def test_defocusgan_has_the_papers_parameters() -> None:
    assert count_parameters(build("defocusgan")) == pytest.approx(PAPER, rel=0.02)


def test_smaller_scales_have_fewer_parameters() -> None:
    for name in CONFIGS:
        sizes = [count_parameters(b) for b in build(name).scales.blocks]  # type: ignore[union-attr]
        assert sizes == sorted(sizes, reverse=True)


def test_lite_is_at_least_8_times_cheaper() -> None:
    image = torch.zeros(1, 3, 64, 96)
    assert 8 * count_macs(build("defocusgan-lite"), image) < count_macs(build("defocusgan"), image)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_new_net_returns_its_input(name: str) -> None:
    image = picture(64, 32).float()
    with torch.no_grad():
        sharp, defocus = build(name).eval()(image)
    assert torch.equal(sharp, image)
    assert defocus is None


def test_random_weights_give_a_picture() -> None:
    image = picture(64, 96).float()
    for seed in range(3):
        with torch.no_grad():
            change = checkpoint.random("defocusgan-tiny", seed)[0].eval()(image)[0] - image
        assert 0.01 < change.std() < 0.5


def test_a_branch_has_eight_layers_of_which_rcabs_are_the_last_at_the_bottom() -> None:
    for attentive in range(4):
        layers = Branch(3, 4, 6, attentive, 2)
        kinds = [type(m) for m in layers.modules() if isinstance(m, (nn.Conv2d, Rcab))]
        assert kinds.count(Rcab) == attentive
        inside = 4 * attentive  # an RCAB's convolutions, which count as one layer
        assert len(kinds) - inside == 8


def test_a_new_rcab_is_the_identity_and_its_gate_sees_the_whole_picture() -> None:
    torch.manual_seed(0)
    rcab, x = Rcab(4, 2), torch.rand(1, 4, 8, 8)
    assert torch.equal(rcab(x, Means()), x)
    nn.init.normal_(rcab.conv2.weight)
    branch = rcab.conv2(torch.relu(rcab.conv1(x)))
    expected = x + rcab.gate(branch.mean((2, 3), keepdim=True)) * branch
    torch.testing.assert_close(rcab(x, Means()), expected)


def test_given_means_are_taken_in_order() -> None:
    features = [torch.rand(2, width, 4, 6) for width in (2, 3)]
    computed = Means()
    found = [computed.of(f) for f in features]
    for mean, f in zip(found, features, strict=True):
        torch.testing.assert_close(mean, f.mean((2, 3), keepdim=True))
    given = Means(computed.joined())
    assert all(torch.equal(given.of(f), m) for f, m in zip(features, found, strict=True))


@pytest.mark.parametrize("name", ["defocusgan-tiny", "defocusgan-lite"])
def test_a_tile_with_its_halo_and_the_pictures_context_equals_the_whole(name: str) -> None:
    net = drawn(replace(CONFIGS[name], features=(4, 4, 4), deep=(4, 4, 4)))
    side = net.multiple
    margin = -(-net.halo // side) * side
    image = picture(3 * side + 2 * margin, 2 * side)
    core = slice(margin + side, margin + 2 * side)
    part = image[:, :, core.start - margin : core.stop + margin]
    with torch.no_grad():
        expected = net(image)[0][:, :, core]
        tile = net.restore(part, net.estimate(image))
        alone = net(part)[0]
    torch.testing.assert_close(tile[:, :, margin:-margin], expected, rtol=0, atol=1e-10)
    assert (alone[:, :, margin:-margin] - expected).abs().max() > 1e-6  # the context is needed
    assert net.global_context


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_a_step_of_training_reaches_every_parameter(weight: float) -> None:
    net = checkpoint.random("defocusgan-tiny", 0)[0].train()
    assert isinstance(net, DefocusGan)
    image = picture(32, 64).float()
    defocus = torch.linspace(0, 1, 64).expand(1, 1, 32, 64)  # all four ranges, at every scale
    optimizer = torch.optim.Adam(net.parameters(), 2e-4)
    losses = []
    for _ in range(2):
        loss = (net.guided(image, defocus, weight) - image.flip(3)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


def test_weights_of_another_system_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    net, _ = checkpoint.random("didanet-tiny", 0)
    checkpoint.save(path, "didanet-tiny", net, weights="", license="")
    with pytest.raises(CheckpointError, match="of 'didanet-tiny', not of 'defocusgan-tiny'"):
        checkpoint.load("defocusgan-tiny", path)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"features": (8, 8)}, r"features: expected 3 widths, each at least 1, got \(8, 8\)"),
        ({"deep": (8, 0, 8)}, r"deep: expected 3 widths, each at least 1, got \(8, 0, 8\)"),
        ({"reduction": 0}, "reduction: expected at least 1, got 0"),
        ({"fold": 3}, "fold: expected 1 or 2, got 3"),
        ({"bounds": (6.0, 1.5, 14.0)}, "bounds: expected 3 rising radii between 0 and 25.0"),
        ({"bounds": (1.5, 6.0)}, r"bounds: .* got \(1.5, 6.0\)"),
        ({"bounds": (1.5, 6.0, 25.0)}, r"bounds: .* got \(1.5, 6.0, 25.0\)"),
    ],
)
def test_a_wrong_config_says_which_value(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**changed)  # type: ignore[arg-type]
