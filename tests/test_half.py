from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from allfocus.export import to_onnx
from allfocus.export.half import run_in_half
from allfocus.export.layers import search
from allfocus.export.lower import matching
from allfocus.export.verify import check_half, verify
from allfocus.runtime.errors import ParityError, UsageError
from allfocus.runtime.spec import Graph, Io, Size
from allfocus.train import checkpoint
from allfocus.train.models import build
from allfocus.train.models.base import Deblurrer
from allfocus.train.models.didanet import DidANet


class Scale(Deblurrer):
    """Multiplies by `factor` and divides again: nothing in float32, an overflow in float16."""

    multiple, halos, max_radius = 1, {"whole": 0}, 1.0

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        scaled = image * self.factor * self.factor
        return scaled / self.factor / self.factor, image[:, :1]


class Sum(Deblurrer):
    """Sums 4,095 ones of one picture in one convolution."""

    multiple, halos, max_radius = 1, {"whole": 0}, 1.0

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 * 1365, 3, 1, bias=False)
        nn.init.ones_(self.conv.weight)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        sharp: Tensor = self.conv(image.repeat(1, 1365, 1, 1))
        return sharp, image[:, :1]


GRAPH = Graph(io="float", precision="fp16", color="rgb", shapes=None)


def test_results_are_those_of_float16() -> None:
    image = torch.rand(1, 3, 8, 8)
    sharp, _ = run_in_half(Scale(3.0), "whole", [image])
    half, three = image.half(), torch.tensor(3.0).half()
    assert torch.equal(sharp, (half * three * three / three / three).float())


def test_sums_are_those_of_float32() -> None:
    """Adding 4,095 ones one by one in float16 stops at 2,048."""
    conv = Sum()
    sharp, _ = run_in_half(conv, "whole", [torch.ones(1, 3, 4, 4)])
    assert float(sharp.max()) == 4096  # 4,095 rounded


def test_the_net_is_left_as_it_is() -> None:
    net = Scale(1 / 3)
    run_in_half(net, "whole", [torch.rand(1, 3, 4, 4)])
    assert net.factor.item() == pytest.approx(1 / 3, rel=1e-7)


def test_an_overflow_that_onnx_runtime_would_not_show_is_refused() -> None:
    with pytest.raises(ParityError, match="in fp16 the net is at -inf dB"):
        check_half(Scale(1000.0), GRAPH, 60.0)


def test_a_sound_net_passes() -> None:
    net, _ = checkpoint.random("didanet-tiny", 0)
    assert check_half(net.eval(), GRAPH, 60.0) >= 60


def overflowing() -> Deblurrer:
    """A tiny net whose body gives more than float16 holds, which its tail makes small again."""
    net, _ = checkpoint.random("didanet-tiny", 0)
    assert isinstance(net, DidANet)
    with torch.no_grad():
        net.restorer.body.weight.mul_(1e6)
        net.restorer.tail.weight.mul_(1e-6)
    return net.eval()


def test_the_error_names_the_layers_that_lose_most() -> None:
    with pytest.raises(ParityError, match=r"lose most: restorer\.(body|tail) \(-inf dB") as caught:
        check_half(overflowing(), GRAPH, 60.0)
    assert "--fp32-layers restorer.body,restorer.tail," in str(caught.value)


def test_the_search_finds_the_fewest_layers_that_reach_the_limit() -> None:
    net = overflowing()
    kept = search(net, GRAPH, 60.0, Size(64, 48))
    assert set(kept) == {"restorer.body", "restorer.tail"}
    assert check_half(net, GRAPH, 60.0, kept) >= 60
    assert search(checkpoint.random("didanet-tiny", 0)[0].eval(), GRAPH, 60.0, Size(64, 48)) == ()


def test_a_limit_that_no_layer_reaches_is_told() -> None:
    with pytest.raises(ParityError, match=r"with all layers in float32 .* use --precision fp32"):
        search(Scale(1 / 3), GRAPH, 150.0, Size(16, 16))


@pytest.mark.parametrize("io", ["float", "frame"])
def test_kept_layers_are_float32_in_the_graph_and_pass_parity(tmp_path: Path, io: Io) -> None:
    net, spec = overflowing(), checkpoint.random("didanet-tiny", 0)[1]
    kept = matching(net, ("restorer.body", "restorer.tail"))
    graph = replace(GRAPH, io=io)
    model = to_onnx.export(net, spec, graph, kept)
    types = {t.name: t.data_type for t in model.graph.initializer}
    assert types["restorer.body.weight"] == types["restorer.tail.weight"] == TensorProto.FLOAT
    assert types["restorer.head.weight"] == TensorProto.FLOAT16
    to_onnx.write(model, tmp_path / "mixed.onnx")
    assert verify(tmp_path / "mixed.onnx", net, graph, kept=kept)["float16_psnr_db"] >= 60


def test_patterns_choose_layers() -> None:
    net = build("didanet-tiny")
    assert matching(net, ("restorer.blocks.0.*", "restorer.tail")) == (
        "restorer.blocks.0.conv1",
        "restorer.blocks.0.conv2",
        "restorer.tail",
    )
    with pytest.raises(UsageError, match=r"no layer 'restorer.tial': did you mean 'restorer.tail'"):
        matching(net, ("restorer.tial",))


@pytest.mark.parametrize("kept", ["restorer.blocks.0.modulate1.gamma.0", "restorer.head"])
def test_modulation_takes_conditions_of_another_precision(kept: str) -> None:
    net = checkpoint.random("sftnet-tiny", 0)[0].eval()
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net.run("whole", image)[0]
    found = run_in_half(net, "whole", [image], [kept])[0]
    assert (found - expected).abs().max() < 5e-3
