"""The net with spatial modulation: its parts' costs, its halo, its two phases, its ablations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from halos import measured
from tiny_graphs import Floats
from torch import Tensor

import allfocus
from allfocus.export import to_onnx, to_trt
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import CheckpointError
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.count import count_macs, count_parameters
from allfocus.train.models.sftnet import CONFIGS, Config, Modulation, SftNet

TINY = CONFIGS["sftnet-tiny"]


def drawn(config: Config) -> SftNet:
    """A net with random weights in every layer, in float64."""
    torch.manual_seed(0)
    net = SftNet(config).double().eval()
    for parameter in net.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return net


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, height, width, dtype=torch.float64, generator=generator)


def conv(inputs: int, outputs: int, positions: int, side: int = 3) -> tuple[int, int]:
    """Parameters and MACs of a convolution with bias at so many output positions."""
    weights = side * side * inputs * outputs
    return weights + outputs, weights * positions


def test_sftnet_costs_what_its_layers_add_up_to() -> None:
    half, quarter, full = 200 * 300, 100 * 150, 400 * 600
    layers = [conv(3, 64, half), *[conv(64, 64, quarter)] * 10, conv(64, 1, quarter)]
    layers += [conv(1, 64, full), conv(64, 64, full), conv(64, 64, full)]
    layers += [conv(3, 128, full), *[conv(128, 128, full)] * 25, conv(128, 3, full)]
    beta = [conv(64, 64, full, 1), conv(64, 128, full, 1)]
    gamma = [conv(64, 64, 1, 1), conv(64, 128, 1, 1), conv(64, 64, full, 1), conv(64, 1, full, 1)]
    layers += 24 * (beta + gamma)
    net = build("sftnet")
    assert count_parameters(net) == sum(p for p, _ in layers) == 4_843_228
    assert count_macs(net, torch.zeros(1, 3, 400, 600)) == sum(m for _, m in layers)


def test_lite_is_at_least_8_times_cheaper() -> None:
    image = torch.zeros(1, 3, 64, 96)
    assert 8 * count_macs(build("sftnet-lite"), image) < count_macs(build("sftnet"), image)


@pytest.mark.parametrize("modulation", get_args(Modulation))
def test_each_ablation_sees_as_far_as_it_says(modulation: Modulation) -> None:
    thin = replace(TINY, map_features=2, features=2, conditions=2, modulation=modulation)
    net = SftNet(thin)
    pooled = modulation in ("decomposed", "both")
    signatures = MODELS["sftnet-tiny" if pooled else "didanet-tiny"].signatures
    assert measured(net, signatures) == net.halos


@pytest.mark.parametrize("name", ["sftnet-tiny", "sftnet-lite"])
def test_a_tile_with_its_halo_and_the_pictures_context_equals_the_whole(name: str) -> None:
    net = drawn(replace(CONFIGS[name], map_features=4, features=4, conditions=4, blocks=2))
    margin = -(-net.halo // net.multiple) * net.multiple
    step = net.multiple
    image = picture(2 * margin + 4 * step, 48)
    core = slice(margin + step, margin + 2 * step)
    part = image[:, :, core.start - margin : core.stop + margin]
    with torch.no_grad():
        whole = net(image)[0]
        _, context = net.estimate(image)
        tile = net.restore(part, net.estimate(part)[0], context)
        alone = net(part)[0]
    expected = whole[:, :, core]
    torch.testing.assert_close(tile[:, :, margin:-margin], expected, rtol=0, atol=1e-9)
    assert (alone[:, :, margin:-margin] - expected).abs().max() > 1e-6  # the context is needed
    assert net.global_context


@pytest.mark.parametrize("modulation", get_args(Modulation))
def test_each_ablation_trains_everything_it_has(modulation: Modulation) -> None:
    net = drawn(replace(TINY, modulation=modulation)).train()
    sharp, defocus = net(picture(8, 12))
    (sharp.square().mean() + defocus.mean()).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())
    assert net.global_context == (modulation in ("decomposed", "both"))


def test_modulation_is_what_eq_2_says() -> None:
    net = drawn(TINY)
    layer = net.restorer.blocks[0].modulate1  # type: ignore[union-attr]
    conditions = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    features = torch.randn(1, 16, 5, 6, dtype=torch.float64)
    context = conditions.mean((2, 3), keepdim=True)
    gamma = layer.gamma(context) * layer.gamma_s(conditions)
    assert gamma.shape == features.shape
    expected = gamma * features + layer.beta(conditions)
    torch.testing.assert_close(layer(features, conditions, context), expected)


def test_weights_of_another_system_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    net = build("didanet-tiny")
    checkpoint.save(path, "didanet-tiny", net, weights="untrained", license="none")
    with pytest.raises(CheckpointError, match="weights of 'didanet-tiny', not of 'sftnet-tiny'"):
        checkpoint.load("sftnet-tiny", path)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"blocks": 0}, "blocks: expected at least 1, got 0"),
        ({"conditions": -1}, "conditions: expected at least 1, got -1"),
        ({"modulation": "full"}, "modulation: expected one of none, plain, .* got 'full'"),
        ({"shuffle": 3}, "shuffle: expected 1 or 2, got 3"),
    ],
)
def test_a_wrong_config_says_which_value(changed: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_it_runs_without_torch_at_any_size(tmp_path: Path, floats: Floats, precision: str) -> None:
    """Its own operation leaves the net as an ONNX function, and ONNX Runtime computes it."""
    onnx = tmp_path / "sftnet.onnx"
    options = ["--model", "sftnet-tiny", "--weights", "random:0", "--precision", precision]
    if precision == "fp32":
        onnx = floats.file("sftnet-tiny", "whole")
    else:
        assert to_onnx.main([*options, "--io", "frame", "--out", str(onnx)]) == 0
    frame = (255 * picture(13, 21)[0].permute(1, 2, 0)).round().to(torch.uint8)
    with allfocus.load(onnx, backend="cpu", color="rgb") as deblur:
        result = deblur(frame.numpy())
    padded = torch.nn.functional.pad(
        frame.permute(2, 0, 1)[None] / 255, (0, 3, 0, 3), mode="reflect"
    )
    net = checkpoint.random("sftnet-tiny", 0)[0].eval()
    with torch.no_grad():
        sharp, defocus = net(padded)
    levels = (255 * sharp[0, :, :13, :21].clamp(0, 1)).permute(1, 2, 0)
    assert np.abs(result.image - levels.numpy()).max() < 1.5
    assert result.defocus is not None
    radius = net.max_radius * defocus[0, 0, :13, :21].clamp(min=0).numpy()
    assert np.abs(result.defocus - radius).max() < (1e-3 if precision == "fp32" else 0.05)


@pytest.mark.rtx
def test_an_engine_is_built_for_three_generations(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    options = ["--model", "sftnet-tiny", "--weights", "random:0", "--size", "64x48", "--json"]
    assert to_trt.main([*options, "--backend", "tensorrt-rtx"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["engine"]).stat().st_size == report["engine_bytes"]
    assert report["targets"] == ["sm86", "sm89", "sm120"]
