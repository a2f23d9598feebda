"""JDRL's U-Net: what it costs, what each part does, and the way from the catalogue to a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import allfocus
from allfocus import cli
from allfocus.export import plan, to_trt
from allfocus.runtime.errors import CheckpointError
from allfocus.runtime.spec import Precision
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.count import count_macs, count_parameters
from allfocus.train.models.jdrl_unet import Config, JdrlUNet, Up

CHELSEA = Path(allfocus.__file__).parent / "data" / "chelsea.png"
NAME, LITE, TINY = "jdrl-unet", "jdrl-unet-lite", "jdrl-unet-tiny"


def _conv(inputs: int, outputs: int, positions: int, side: int = 3) -> tuple[int, int]:
    """Parameters and MACs of a convolution with bias at so many output positions."""
    weights = side**2 * inputs * outputs
    return weights + outputs, weights * positions


def _layers(widths: tuple[int, ...], channels: int, positions: int) -> list[tuple[int, int]]:
    """The U-Net as SYSTEMS.md draws it, layer by layer."""
    layers = []
    for i, (before, width) in enumerate(zip((channels, *widths), widths, strict=False)):
        there = positions // 4**i
        layers += [_conv(before, width, there), _conv(width, width, there)]
        if i:
            above = 4 * there
            layers += [_conv(width, before, above, side=2)]
            layers += [_conv(2 * before, before, above), _conv(before, before, above)]
    return [*layers, _conv(widths[0], channels, positions)]


@pytest.mark.parametrize(
    ("name", "widths", "fold", "parameters"),
    [
        (NAME, (64, 128, 256, 512, 1024), 1, 31_033_411),
        (LITE, (32, 64, 128, 256, 512), 2, 7_766_124),
        (TINY, (8, 16, 32), 1, 29_675),
    ],
)
def test_costs_what_the_layers_add_up_to(
    name: str, widths: tuple[int, ...], fold: int, parameters: int
) -> None:
    layers = _layers(widths, 3 * fold**2, 320 * 640 // fold**2)
    with torch.device("meta"):
        net = build(name)
    assert count_parameters(net) == sum(p for p, _ in layers) == parameters
    assert count_macs(net, torch.zeros(1, 3, 320, 640)) == sum(m for _, m in layers)


def test_lite_costs_at_most_an_eighth() -> None:
    image = torch.zeros(1, 3, 320, 640, device="meta")
    with torch.device("meta"):
        full, lite = (count_macs(build(name), image) for name in (NAME, LITE))
    assert 8 * lite <= full


@pytest.mark.parametrize("fold", [1, 2])
def test_folding_keeps_every_pixel_in_its_place(fold: int) -> None:
    """With 2x2 pixels folded, an output still answers at the place of its input."""
    net = JdrlUNet(Config(widths=(4, 4), fold=fold)).eval()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():  # through the skip, each channel becomes its own logit
        for channel in range(min(4, 3 * fold**2)):
            net.get_parameter("down.0.0.weight")[channel, channel, 1, 1] = 1
            net.get_parameter("down.0.2.weight")[channel, channel, 1, 1] = 1
            net.get_parameter("up.0.level.0.weight")[channel, 4 + channel, 1, 1] = 1
            net.get_parameter("up.0.level.2.weight")[channel, channel, 1, 1] = 1
            net.get_parameter("tail.weight")[channel, channel, 1, 1] = 1
        image = torch.rand(1, 3, 8, 12)
        sharp, _ = net(image)
    seen = torch.logit(sharp)[:, :1]  # four folded channels are the red one
    torch.testing.assert_close(seen, image[:, :1], rtol=1e-4, atol=1e-5)


def test_up_looks_down_and_right() -> None:
    up = Up(1, 1)
    up.level = nn.Identity()
    nn.init.constant_(up.conv.weight, 1.0)
    nn.init.zeros_(up.conv.bias)  # type: ignore[arg-type]
    x = torch.tensor([[[[1.0, 10.0]]]])
    with torch.no_grad():
        risen = up(x, torch.zeros(1, 1, 2, 4))[:, :1]
    assert risen.tolist() == [[[[4, 22, 40, 20], [2, 11, 20, 10]]]]


def test_dropout_works_in_training_only() -> None:
    net = JdrlUNet(Config(widths=(4, 8, 16), dropout=0.4))
    image = torch.rand(1, 3, 16, 16)
    assert not torch.equal(net.train()(image)[0], net(image)[0])
    net.eval()
    assert torch.equal(net(image)[0], net(image)[0])


def test_dropout_is_at_the_two_deepest_levels() -> None:
    net = JdrlUNet(Config(widths=(4, 8, 16)))
    shapes: list[int] = []
    net.dropout.register_forward_hook(lambda _, __, out: shapes.append(out.shape[1]))
    net(torch.rand(1, 3, 16, 16))
    assert shapes == [8, 16]


def test_a_step_of_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    net = build(TINY).train()
    image = torch.rand(2, 3, 32, 32)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    net.dropout.p = 0.0  # type: ignore[assignment]  # so that both losses are of one function
    losses = []
    for _ in range(2):
        loss = (net(image)[0] - image).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in net.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]


def _photo(width: int, height: int) -> torch.Tensor:
    """The cat of the package at this size, [1, 3, height, width] in RGB."""
    photo = cv2.imread(str(CHELSEA))
    assert photo is not None
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(small[:, :, ::-1].copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(
    ("name", "seed"), [(TINY, 0), (TINY, 1), (TINY, 2), (LITE, 0), (LITE, 1), (NAME, 0)]
)
def test_random_weights_make_a_picture_of_contrast(name: str, seed: int) -> None:
    photo = _photo(96, 64)[:, :, :, 16:80]
    net = checkpoint.random(name, seed)[0].eval()
    with torch.no_grad():
        (sharp,) = net.run("whole", photo)
    contrast = sharp.std((2, 3))  # of each channel, over the picture
    assert contrast.min() > 0.08
    assert contrast.mean() > 0.1
    assert ((sharp > 0.02) & (sharp < 0.98)).float().mean() > 0.9  # not saturated
    difference = (sharp - sharp.mean((2, 3), keepdim=True)).std(1)  # beside a grey picture
    assert difference.mean() > 0.02


@pytest.mark.parametrize("part", ["down.2.0", "up.1.conv", "up.0.conv", "down.0.2", "tail"])
def test_random_weights_of_every_depth_matter(part: str) -> None:
    """Or a parity check with them would not see a wrong layer."""
    photo = _photo(96, 64)
    net = checkpoint.random(TINY, 0)[0].eval()
    with torch.no_grad():
        (before,) = net.run("whole", photo)
        net.get_parameter(f"{part}.weight").mul_(1.1)
        (after,) = net.run("whole", photo)
    assert (after - before).abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("widths", (8,), r"widths: expected 2 or more, each at least 1, got \(8,\)"),
        ("widths", (8, 0), r"widths: expected 2 or more, each at least 1, got \(8, 0\)"),
        ("dropout", 1.0, "dropout: expected 0 or more and under 1, got 1.0"),
        ("fold", 3, "fold: expected 1 or 2, got 3"),
    ],
)
def test_a_wrong_config_says_which_value(field: str, value: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**{field: value})  # type: ignore[arg-type]


def test_an_unknown_config_key_is_refused() -> None:
    with pytest.raises(TypeError, match="depth"):
        Config(depth=3)  # type: ignore[call-arg]


def test_weights_of_another_system_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    net, _ = checkpoint.random("didanet-tiny", 0)
    checkpoint.save(path, "didanet-tiny", net, weights="", license="")
    with pytest.raises(CheckpointError, match="weights of 'didanet-tiny', not of 'jdrl-unet-tiny'"):
        checkpoint.load(TINY, path)


def test_export_and_deblur(tmp_path: Path) -> None:
    export = ["export", "--model", TINY, "--weights", "random:0", "--onnx-only"]
    assert cli.main([*export, "--size", "64x48"]) == 0
    photo, out = tmp_path / "in.png", tmp_path / "out.png"
    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)  # odd both ways
    assert cv2.imwrite(str(photo), noise)
    assert cli.main(["deblur", str(photo), "-o", str(out), "--model", TINY]) == 0
    made = cv2.imread(str(out))
    assert made is not None
    assert made.shape == noise.shape


@pytest.mark.rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_for_three_generations(tmp_path: Path, precision: Precision) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    options = plan.Options(
        model=TINY,
        weights="random:0",
        precision=precision,
        backend="tensorrt-rtx",
        target="sm86,sm89,sm120",
        min="32x32",
        opt="64x48",
        max="96x96",
    )
    made, _ = plan.make_plan(options)
    report = to_trt.export(made, out=tmp_path)
    assert report["targets"] == ["sm86", "sm89", "sm120"]
    assert {"max_abs", "mean_abs", "psnr_db"} <= set(report["parity"])
    assert "defocus_max_abs" not in report["parity"]
