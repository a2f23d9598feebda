"""DefocusGAN's masks: what they do in training, and that nothing of them is exported."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from defocusgan_nets import TINY, drawn, picture
from tiny_graphs import Floats
from torch import Tensor, nn

import allfocus
from allfocus.export import to_trt
from allfocus.train import checkpoint
from allfocus.train.models.defocusgan import CONFIGS, DefocusGan, mask_weight
from allfocus.train.models.guided_blocks import GuidedBlock, Means


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


def test_it_runs_without_torch(floats: Floats) -> None:
    path = floats.half("defocusgan-tiny", "whole")
    graph = onnx.load(path).graph
    assert [value.name for value in graph.input] == ["image"]
    masking = {"Greater", "GreaterOrEqual", "Less", "And", "Where", "AveragePool"}
    assert not masking & {node.op_type for node in graph.node}
    frame = (255 * picture(37, 53)[0].permute(1, 2, 0)).round().to(torch.uint8)
    with allfocus.load(path, backend="cpu", color="rgb") as deblur:
        result = deblur(frame.numpy())
    padded = nn.functional.pad(frame.permute(2, 0, 1)[None] / 255, (0, 43, 0, 27), mode="reflect")
    net = checkpoint.random("defocusgan-tiny", 0)[0].eval()
    with torch.no_grad():
        sharp = net(padded)[0]
    levels = (255 * sharp[0, :, :37, :53].clamp(0, 1)).permute(1, 2, 0)
    assert np.abs(result.image - levels.numpy()).max() < 1.5
    assert result.defocus is None


@pytest.mark.full
@pytest.mark.rtx
def test_an_engine_is_built_for_three_generations(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    options = ["--model", "defocusgan-tiny", "--weights", "random:0", "--size", "64x48", "--json"]
    assert to_trt.main([*options, "--backend", "tensorrt-rtx"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["engine"]).stat().st_size == report["engine_bytes"]
    assert report["targets"] == ["sm86", "sm89", "sm120"]
