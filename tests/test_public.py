"""Checkpoints of JDRL's public code, made up here: names, parts and colours find their places."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from allfocus.runtime.errors import CheckpointError
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.jdrl_unet import Config, JdrlUNet
from allfocus.train.public import PUBLIC, State

# Layers of the public code's U-Net with their shapes, from the picture down and up again.
DOWN = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
UP = {6: (1024, 512), 7: (512, 256), 8: (256, 128), 9: (128, 64)}


def _unet_shapes() -> dict[str, tuple[int, ...]]:
    """As the public class lists them; a block's convolutions are at 0 and 2, `up`'s at 1."""
    layers: dict[str, tuple[int, ...]] = {}
    for number, (before, width) in enumerate(DOWN, 1):
        layers[f"encoder.block{number}.0"] = (width, before, 3, 3)
        layers[f"encoder.block{number}.2"] = (width, width, 3, 3)
    for number, (before, width) in UP.items():
        layers[f"up{number}.1"] = (width, before, 2, 2)
        layers[f"block{number}.0"] = (width, 2 * width, 3, 3)
        layers[f"block{number}.2"] = (width, width, 3, 3)
    return layers | {"out.0": (3, 64, 3, 3)}


def _reblur_shapes() -> dict[str, tuple[int, ...]]:
    layers: dict[str, tuple[int, ...]] = {}
    for net, outputs in (("kernel_map_gene", 8), ("kpn", 35)):
        layers[f"{net}.conv_first"] = (64, 6, 3, 3)
        for block, conv in itertools.product((1, 2, 3), (1, 2)):
            layers[f"{net}.block{block}.conv{conv}"] = (64, 64, 3, 3)
        layers[f"{net}.out"] = (outputs, 64, 3, 3)
    return layers


def _state(shapes: dict[str, tuple[int, ...]]) -> State:
    """Random tensors under public names, as torch's DataParallel saves them."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        # Values of one picture's channels differ; far from all 31 million need to.
        weight = torch.randn(shape[:2], generator=generator)[:, :, None, None].expand(shape)
        state[f"module.{name}.weight"] = weight * torch.arange(1.0, shape[-1] + 1)
        state[f"module.{name}.bias"] = torch.randn(shape[:1], generator=generator)
    return state


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State, State]:
    """A file as the public code's training writes it, and the two nets in it."""
    path = tmp_path_factory.mktemp("jdrl") / "epoch_100_G_0.031_P_25.820.pth"
    unet, reblur = _state(_unet_shapes()), _state(_reblur_shapes())
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))]).state_dict()
    parts = {"G_state_dict": unet, "Reblur_state_dict": reblur, "G_opt": optimizer}
    torch.save({"epoch": 100, "global_step": 100, **parts}, path)
    return path, unet, reblur


def test_the_unet_loads_by_name_with_its_colours_turned(
    published: tuple[Path, State, State],
) -> None:
    path, given, _ = published
    net, spec = checkpoint.load("jdrl-unet", path)
    assert spec.weights == f"given by the user: {path.name}"
    for ours, public in (
        ("down.1.2.weight", "encoder.block2.2.weight"),
        ("down.4.0.bias", "encoder.block5.0.bias"),
        ("up.3.conv.weight", "up6.1.weight"),
        ("up.0.conv.bias", "up9.1.bias"),
        ("up.3.level.0.weight", "block6.0.weight"),
        ("up.1.level.2.bias", "block8.2.bias"),
    ):
        assert torch.equal(net.get_parameter(ours), given[f"module.{public}"]), ours
    first, last = given["module.encoder.block1.0.weight"], given["module.out.0.weight"]
    assert torch.equal(net.get_parameter("down.0.0.weight"), first[:, [2, 1, 0]])
    assert torch.equal(net.get_parameter("tail.weight"), last[[2, 1, 0]])
    assert torch.equal(net.get_parameter("tail.bias"), given["module.out.0.bias"][[2, 1, 0]])


def test_the_reblurring_net_loads_from_the_same_file(published: tuple[Path, State, State]) -> None:
    path, _, given = published
    net, _ = checkpoint.load("jdrl-reblur", path)
    for ours, public in (
        ("kernels.blocks.0.conv2.weight", "kpn.block1.conv2.weight"),
        ("kernels.tail.bias", "kpn.out.bias"),
        ("mix.blocks.2.conv1.bias", "kernel_map_gene.block3.conv1.bias"),
        ("mix.head.bias", "kernel_map_gene.conv_first.bias"),
    ):
        assert torch.equal(net.get_parameter(ours), given[f"module.{public}"]), ours
    for ours, public in (("kernels", "kpn"), ("mix", "kernel_map_gene")):
        expected = given[f"module.{public}.conv_first.weight"][:, [2, 1, 0, 5, 4, 3]]
        assert torch.equal(net.get_parameter(f"{ours}.head.weight"), expected)


def _swapped(picture: Tensor) -> Tensor:
    return picture.flip(1)


def test_turned_weights_answer_in_rgb_what_they_answered_in_bgr() -> None:
    public = PUBLIC["jdrl-unet"]
    bgr, rgb = (JdrlUNet(Config(widths=(4, 8, 8))).eval() for _ in range(2))
    rgb.load_state_dict(public.in_rgb(bgr.state_dict()))
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = _swapped(bgr(_swapped(image))[0])
        torch.testing.assert_close(rgb(image)[0], expected)
        assert not torch.allclose(bgr(image)[0], expected, atol=1e-3)


def test_turned_reblurring_weights_do_so_for_both_pictures() -> None:
    public = PUBLIC["jdrl-reblur"]
    bgr, _ = checkpoint.random("jdrl-reblur-tiny", 0)
    rgb = build("jdrl-reblur-tiny")
    rgb.load_state_dict(public.in_rgb(bgr.state_dict()))
    generator = torch.Generator().manual_seed(2)
    sharp, blurry = torch.rand(2, 1, 3, 8, 8, generator=generator)
    with torch.no_grad():
        reblurred, defocus = bgr(_swapped(sharp), _swapped(blurry))
        found = rgb(sharp, blurry)
    torch.testing.assert_close(found[0], _swapped(reblurred))
    torch.testing.assert_close(found[1], defocus)


def test_weights_under_our_names_keep_their_colours(tmp_path: Path) -> None:
    net, path = build("jdrl-reblur"), tmp_path / "own.pth"
    torch.save(net.state_dict(), path)
    loaded, _ = checkpoint.load("jdrl-reblur", path)
    for name, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


@pytest.mark.parametrize("name", ["encoder.block6.0.weight", "block5.0.weight", "up5.1.bias"])
def test_names_that_the_public_unet_does_not_have_stay(name: str) -> None:
    assert PUBLIC["jdrl-unet"].rename(name) == name


@pytest.mark.parametrize("name", ["kpn.block4.conv1.weight", "kpn.kernel_pred.x", "net.out.bias"])
def test_names_that_the_public_reblurring_net_does_not_have_stay(name: str) -> None:
    assert PUBLIC["jdrl-reblur"].rename(name) == name


def test_the_public_file_is_no_other_model(published: tuple[Path, State, State]) -> None:
    with pytest.raises(CheckpointError, match="expected a state_dict of tensors"):
        checkpoint.load("jdrl-unet-tiny", published[0])
