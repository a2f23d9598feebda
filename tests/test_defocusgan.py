"""DefocusGAN's generator: its cost, its guidance and how that leaves no trace, its phases."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import allfocus
from allfocus.export import to_onnx, to_trt
from allfocus.runtime.errors import CheckpointError
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.count import count_macs, count_parameters
from allfocus.train.models.defocusgan import CONFIGS, Config, DefocusGan, mask_weight
from allfocus.train.models.guided_blocks import Branch, GuidedBlock, Means, Rcab

TINY = CONFIGS["defocusgan-tiny"]
PAPER = 4.59e6  # parameters, table 1


def drawn(config: Config = TINY) -> DefocusGan:
    """A net with random weights in every layer, in float64."""
    torch.manual_seed(0)
    net = DefocusGan(config).double().eval()
    for parameter in net.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, 3, height, width, dtype=torch.float64, generator=generator)


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


# Guidance


def test_without_weight_the_masks_are_gone() -> None:
    net, image, defocus = drawn(), picture(32, 48), picture(32, 48)[:, :1]
    with torch.no_grad():
        assert torch.equal(net.guided(image, defocus, 0.0), net(image)[0])


@pytest.mark.parametrize("name", ["defocusgan-tiny", "defocusgan-lite"])
def test_with_weight_the_map_changes_the_picture_more_and_more(name: str) -> None:
    net = drawn(replace(CONFIGS[name], features=(4, 4, 4), deep=(4, 4, 4)))
    image, near = picture(32, 64), torch.zeros(1, 1, 32, 64, dtype=torch.float64)
    with torch.no_grad():
        plain = net(image)[0]
        changes = [
            float((net.guided(image, near, weight) - plain).abs().mean())
            for weight in (0.01, 0.5, 1.0)
        ]
        far = net.guided(image, near + 1, 1.0)
        assert (far - net.guided(image, near, 1.0)).abs().mean() > 1e-3
    assert 0 < changes[0] < changes[1] < changes[2]


def test_each_pixel_comes_from_the_branch_of_its_radius() -> None:
    net = drawn()
    radii = (0.0, 1.4, 1.6, 5.9, 6.1, 13.9, 14.1, 25.0, 30.0)
    defocus = torch.tensor(radii).reshape(1, 1, 1, 9).repeat_interleave(8, 3) / 25
    masks = net.masks(defocus.expand(1, 1, 8, 72), 1.0)
    assert [[tuple(m.shape[2:]) for m in scale] for scale in masks] == [
        [size] * 4 for size in ((8, 72), (2, 18), (1, 9))
    ]
    for scale in masks:
        branches = torch.cat(list(scale), 1)[0, :, 0, :: scale[0].shape[3] // 9].argmax(0)
        assert branches.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]
        assert torch.equal(sum(scale), torch.ones_like(scale[0]))


def test_a_mask_fades_to_one() -> None:
    net = drawn()
    (first, second, *_), *_ = net.masks(torch.zeros(1, 1, 8, 8), 0.25)
    assert first.unique().tolist() == [1.0]
    assert second.unique().tolist() == [0.75]


def test_a_block_is_the_masked_sum_of_its_branches() -> None:
    torch.manual_seed(0)
    net = GuidedBlock(3, 4, 4, 2)
    x, masks = torch.rand(1, 3, 8, 8), [torch.rand(1, 1, 8, 8) for _ in range(4)]
    expected = sum(m * b(x, Means()) for m, b in zip(masks, net.branches, strict=True))
    torch.testing.assert_close(net(x, Means(), masks), expected)


def test_the_weight_goes_from_1_to_0_in_20000_iterations() -> None:
    assert [mask_weight(i) for i in (0, 5_000, 20_000, 30_000)] == [1.0, 0.75, 0.0, 0.0]
    assert mask_weight(1, 4) == 0.75
    with pytest.raises(ValueError, match="got -1 of 20000"):
        mask_weight(-1)
    with pytest.raises(ValueError, match=r"mask_weight: expected 0 to 1, got 1\.5"):
        DefocusGan(TINY).guided(torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16), 1.5)


# What is exported


class Unmasked(nn.Module):
    """A defocus-guided block that knows of no masks."""

    def __init__(self, branches: nn.ModuleList) -> None:
        super().__init__()
        self.branches = branches

    def forward(self, x: Tensor, means: Means, _: None) -> Tensor:
        first, second, third, fourth = (branch(x, means) for branch in self.branches)
        return first + second + third + fourth  # type: ignore[no-any-return]


class Method(nn.Module):
    """One method of a net as a module that can be exported."""

    def __init__(self, net: DefocusGan, method: str) -> None:
        super().__init__()
        self.net, self.method = net, method

    def forward(self, *inputs: Tensor) -> Tensor:
        outputs = getattr(self.net, self.method)(*inputs)
        return outputs[0] if isinstance(outputs, tuple) else outputs


def operations(net: DefocusGan, method: str, *inputs: Tensor) -> tuple[Counter[str], int]:
    """The operators of the exported graph of `method` that its output needs, and its inputs."""
    program = torch.export.export(Method(net, method).eval(), inputs, strict=False)
    program.graph.eliminate_dead_code()
    targets = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    return Counter(targets), len(program.graph_signature.user_inputs)


@pytest.fixture(scope="module")
def exported() -> tuple[Counter[str], int]:
    return operations(drawn(), "forward", picture(32, 48))


def test_the_exported_graph_is_that_of_a_net_without_masks(
    exported: tuple[Counter[str], int],
) -> None:
    plain, image = drawn(), picture(32, 48)
    for index, masked in enumerate(plain.scales.blocks):
        plain.scales.blocks[index] = Unmasked(masked.branches)  # type: ignore[arg-type]
    assert exported == operations(plain, "forward", image)
    assert exported[1] == 1  # input
    with torch.no_grad():
        assert torch.equal(drawn()(image)[0], plain(image)[0])


def test_the_guidance_would_show_in_the_graph(exported: tuple[Counter[str], int]) -> None:
    net, image = drawn(), picture(32, 48)
    net.masked = lambda i, m: net.guided(i, m, 1.0)  # type: ignore[assignment, operator]
    found, inputs = operations(net, "masked", image, image[:, :1])
    added = found - exported[0]
    assert inputs == 2
    assert added["aten.ge.Scalar"] == added["aten.lt.Scalar"] == 3 * 4
    assert added["aten.avg_pool2d.default"] == 3


def test_a_first_pass_computes_no_more_than_it_needs(exported: tuple[Counter[str], int]) -> None:
    """Left out: the plain branch and the ways up at the last scale, its last gates, all after."""
    whole, _ = exported
    first, _ = operations(drawn(), "estimate", picture(32, 48))
    convolution = "aten.conv2d.default"
    assert whole[convolution] - first[convolution] == 8 + 3 * (2 + 2) + 2 + 2
    assert first["aten.mean.dim"] == whole["aten.mean.dim"] == 2 * 18


def test_it_runs_without_torch_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "defocusgan.onnx"
    options = ["--model", "defocusgan-tiny", "--weights", "random:0", "--precision", "fp16"]
    assert to_onnx.main([*options, "--io", "frame", "--out", str(path)]) == 0
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["image"]
    masking = {"Greater", "GreaterOrEqual", "Less", "And", "Where", "AveragePool"}
    assert not masking & {node.op_type for node in graph.node}
    frame = (255 * picture(37, 53)[0].permute(1, 2, 0)).round().to(torch.uint8)
    with allfocus.load(path, backend="cpu", color="rgb") as deblur:
        result = deblur(frame.numpy())
    padded = nn.functional.pad(frame.permute(2, 0, 1)[None] / 255, (0, 11, 0, 11), mode="reflect")
    net = checkpoint.random("defocusgan-tiny", 0)[0].eval()
    with torch.no_grad():
        sharp = net(padded)[0]
    levels = (255 * sharp[0, :, :37, :53].clamp(0, 1)).permute(1, 2, 0)
    assert np.abs(result.image - levels.numpy()).max() < 1.5
    assert result.defocus is None


@pytest.mark.rtx
def test_an_engine_is_built_for_three_generations(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    options = ["--model", "defocusgan-tiny", "--weights", "random:0", "--size", "64x48", "--json"]
    assert to_trt.main([*options, "--backend", "tensorrt-rtx"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["engine"]).stat().st_size == report["engine_bytes"]
    assert report["targets"] == ["sm86", "sm89", "sm120"]


# Parts, tiles, training


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
