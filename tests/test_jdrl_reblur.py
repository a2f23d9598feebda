"""JDRL's reblurring net: what it costs, what its two outputs mean, how it starts, and its graph."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from halos import measured
from isotropic_cases import Case, by_elements, kernels
from onnx_calls import started
from torch import Tensor

from allfocus.export import ops
from allfocus.kernels.taps import seed_count
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import CheckpointError
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.count import count_layers, count_macs, count_parameters
from allfocus.train.models.didanet import ResidualBlock
from allfocus.train.models.jdrl_reblur import Config, JdrlReblur, MeanRadius

NAME, TINY = "jdrl-reblur", "jdrl-reblur-tiny"
SIGNATURES = MODELS[NAME].signatures


def pictures(height: int = 24, width: int = 32, count: int = 1) -> tuple[Tensor, Tensor]:
    """Noise, and the same blurred."""
    generator = torch.Generator().manual_seed(1)
    sharp = torch.rand(count, 3, height, width, generator=generator)
    return sharp, torch.nn.functional.avg_pool2d(sharp, 3, 1, 1)


def conv(inputs: int, outputs: int, positions: int) -> tuple[int, int]:
    """Parameters and MACs of a 3x3 convolution with bias at so many output positions."""
    return 9 * inputs * outputs + outputs, 9 * inputs * outputs * positions


def test_costs_what_its_layers_add_up_to() -> None:
    pixels = 400 * 600
    layers = [conv(6, 64, pixels), *[conv(64, 64, pixels)] * 6] * 2
    layers += [conv(64, 35, pixels), conv(64, 8, pixels)]
    with torch.device("meta"):
        net = build(NAME)
    images = [torch.zeros(1, 3, 400, 600, device="meta")] * 2
    assert count_parameters(net) == sum(p for p, _ in layers) == 474_987
    isotropic = (679 + 1) * 3 * pixels
    radius = sum(i * (i + 1) // 2 * (i + 2) for i in range(2, 9)) * pixels
    assert count_macs(net, *images) == sum(m for _, m in layers) + isotropic + radius


def test_the_isotropic_convolution_has_a_row_of_its_own() -> None:
    net, (sharp, blurry) = build(TINY), pictures()
    row = next(r for r in count_layers(net, sharp, blurry) if r.kind == "Blur")
    assert (row.name, row.output, row.parameters) == ("blur", (1, 3, 24, 32), 0)
    assert row.macs == (1 + 9 + 25 + 49) * 3 * 24 * 32
    assert row.activation_bytes == 4 * (3 + seed_count(4) + 4 + 3) * 24 * 32


def test_only_what_is_learnt_is_saved() -> None:
    net = build(TINY)
    assert list(net.state_dict()) == [name for name, _ in net.named_parameters()]
    assert list(net.buffers())


@pytest.mark.parametrize("levels", [3, 4, 8])
@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_defocus_is_the_mean_distance_under_kernels_written_out(levels: int, scale: float) -> None:
    _, seeds, shares = Case(n=2, levels=levels, scale=scale).tensors(torch.float64)
    expected = torch.zeros(2, 9, 11, dtype=torch.float64)
    for level in range(2, levels + 1):
        span = range(1 - level, level)
        distances = torch.tensor([math.hypot(y, x) for y in span for x in span])
        mean = (kernels(seeds, level) * distances[:, None, None]).sum(1)
        expected += shares[:, level - 1] * mean
    found = MeanRadius(levels).double()(seeds, shares)
    torch.testing.assert_close(found[:, 0] * (levels - 1), expected, rtol=1e-6, atol=1e-6)


def test_a_disc_has_two_thirds_of_its_radius_as_mean_distance() -> None:
    seeds, shares = torch.full((1, 35, 1, 1), 50.0), torch.zeros(1, 8, 1, 1)
    shares[:, 7] = 1
    mean = 7 * float(MeanRadius(8)(seeds, shares))
    assert 1.5 * mean == pytest.approx(7, abs=0.15)


@pytest.mark.parametrize("levels", [3, 8])
def test_defocus_stays_within_0_and_1(levels: int) -> None:
    """Also where all weight lies on the outermost ring, and where none does."""
    seeds = torch.cat([torch.arange(i) ** 2.0 for i in range(2, levels + 1)])[None, :, None, None]
    shares = torch.eye(levels)[:, :, None, None]
    for gain in (0.0, 0.01, 0.1, 1.0, 100.0):
        found = MeanRadius(levels)(gain * seeds.expand(levels, -1, 1, 1), shares).flatten()
        assert found[0] == 0  # the picture itself
        assert torch.all(found.diff() > 0)
        assert found[-1] <= 1
    assert found[-1] == 1


@pytest.mark.parametrize(("scale", "tolerance"), [(1.0, 1e-3), (10.0, 5e-3), (10_000.0, 1.0)])
def test_defocus_is_safe_in_half_precision(scale: float, tolerance: float) -> None:
    """Seeds of 10,000, which float16 rounds to multiples of 8, still give a radius."""
    _, seeds, shares = Case(scale=scale).tensors(torch.float16)
    radius = MeanRadius(8)
    expected = radius(seeds.float(), shares.float())
    found = radius.half()(seeds, shares).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [NAME, TINY])
def test_reblurred_is_the_sharp_picture_under_the_predicted_kernels(name: str) -> None:
    net = checkpoint.random(name, 0)[0].double().eval()
    assert isinstance(net, JdrlReblur)
    sharp, blurry = (picture.double() for picture in pictures(9, 13, count=2))
    with torch.no_grad():
        seeds, shares = net.predict(sharp, blurry)
        reblurred, _ = net(sharp, blurry)
    torch.testing.assert_close(reblurred, by_elements(sharp, seeds, shares), rtol=0, atol=1e-12)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 9, 13, dtype=torch.float64))


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_pictures_smaller_than_a_kernel_are_taken(size: tuple[int, int]) -> None:
    sharp, blurry = pictures(*size)
    reblurred, defocus = build(NAME)(sharp, blurry)
    assert (reblurred.shape, defocus.shape) == (sharp.shape, (1, 1, *size))


@pytest.mark.parametrize("name", [NAME, TINY])
def test_a_new_net_leaves_the_picture_nearly_as_it_is(name: str) -> None:
    torch.manual_seed(0)
    net, (sharp, blurry) = build(name).eval(), pictures()
    with torch.no_grad():
        reblurred, defocus = net(sharp, blurry)
    assert (reblurred - sharp)[:, :, 8:-8, 8:-8].abs().mean() < 0.05  # of noise: the worst there is
    assert defocus.mean() * net.max_radius < 0.5
    with torch.no_grad():
        net.get_parameter("mix.tail.bias")[0] = 1e4
        reblurred, defocus = net(sharp, blurry)
    assert torch.equal(reblurred, sharp)
    assert not defocus.any()


def test_after_one_step_everything_has_a_gradient_and_the_loss_falls() -> None:
    torch.manual_seed(0)
    net, (sharp, blurry) = build(TINY).train(), pictures(count=2)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(5):
        loss = (net(sharp, blurry)[0] - blurry).square().mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        idle = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert all("conv1" in k for k in idle) if len(losses) == 1 else not idle
        optimizer.step()
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("part", ["kernels", "mix"])
def test_the_measured_halo_sees_each_sub_net(part: str) -> None:
    """A block more in either of them shows, though the sharp picture's blur hides behind both."""
    net = JdrlReblur(Config(levels=4, features=2, blocks=1))
    assert measured(net, SIGNATURES) == {"whole": 4} == net.halos
    net = JdrlReblur(Config(levels=4, features=2, blocks=1))
    net.get_submodule(part).blocks.append(ResidualBlock(2, 1.0))  # type: ignore[union-attr, operator]
    assert measured(net, SIGNATURES) == {"whole": 6}


def test_the_kernels_reach_farther_where_the_predictions_do_not() -> None:
    net = JdrlReblur(Config(levels=8, features=2, blocks=1))
    assert measured(net, SIGNATURES) == {"whole": 7} == net.halos


@pytest.mark.parametrize("name", [NAME, TINY])
def test_random_weights_use_every_level_and_differ_from_pixel_to_pixel(name: str) -> None:
    net = checkpoint.random(name, 0)[0].eval()
    assert isinstance(net, JdrlReblur)
    sharp, blurry = pictures()
    with torch.no_grad():
        reblurred, defocus = net(sharp, blurry)
        _, shares = net.predict(sharp, blurry)
    assert shares.mean((0, 2, 3)).min() > 0.3 / shares.shape[1]
    assert defocus.std() > 0.03
    assert (reblurred - sharp).abs().mean() > 0.05
    assert reblurred.std() > 0.05


def test_weights_come_back_and_those_of_another_system_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    spec = checkpoint.save(path, TINY, build(TINY), weights="untrained", license="none")
    assert checkpoint.load(TINY, path)[1] == spec
    assert (spec.multiple, spec.halo, spec.max_radius, spec.global_context) == (1, 4, 3.0, False)
    with pytest.raises(CheckpointError, match=f"weights of '{TINY}', not of 'jdrl-unet-tiny'"):
        checkpoint.load("jdrl-unet-tiny", path)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"levels": 2}, "levels: expected at least 3, got 2"),
        ({"features": 0}, "features: expected at least 1, got 0"),
        ({"blocks": -1}, "blocks: expected at least 1, got -1"),
    ],
)
def test_a_wrong_config_says_which_value(changed: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**changed)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:# The axis name")
def test_it_goes_through_onnx_at_any_size() -> None:
    net = checkpoint.random(TINY, 0)[0].eval()
    axes = {2: torch.export.Dim("h"), 3: torch.export.Dim("w")}
    program = torch.onnx.export(
        net,
        pictures(),
        dynamo=True,
        input_names=SIGNATURES["whole"].inputs,
        output_names=SIGNATURES["whole"].outputs,
        dynamic_shapes=(axes, axes),
        custom_translation_table=ops.translations(),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    ops.attach_functions(model)
    sharp, blurry = pictures(13, 21)
    with torch.no_grad():
        expected = net(sharp, blurry)
    found = started(model).run(None, {"sharp": sharp.numpy(), "blurry": blurry.numpy()})
    for of_onnx, of_torch in zip(found, expected, strict=True):
        np.testing.assert_allclose(of_onnx, of_torch.numpy(), atol=1e-5)
