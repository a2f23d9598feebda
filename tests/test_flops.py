from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from allfocus.benchmarks import flops
from allfocus.benchmarks.schema import FlopsReport, decode, encode
from allfocus.runtime.errors import UnknownModelError
from allfocus.runtime.spec import Size
from allfocus.train.models import build

SIZE = Size(600, 400)
# SYSTEMS.md gives 5.25 M and 1,259 GMAC for the released net. That is one 64->64 convolution at
# full resolution too many (36,928 parameters, 8.85 GMAC): the public code's own list of layers has
# one convolution before and one after the map estimator's four blocks, as counted here.
KNOWN = {
    "didanet": (4_069_444, 892.3e9),
    "didanet-released": (5_213_188, 1_249.97e9),
    "jdrl-unet": (31_033_411, 203.058e9),
    "jdrl-unet-lite": (7_766_124, 13.5812e9),
}


@pytest.mark.parametrize(("model", "parameters", "macs"), [(m, *k) for m, k in KNOWN.items()])
def test_totals_are_the_known_figures(model: str, parameters: int, macs: float) -> None:
    total = flops.report(model, SIZE, "fp32").total
    assert total.parameters == parameters
    assert total.macs == pytest.approx(macs, rel=1e-4)


@pytest.mark.parametrize("model", KNOWN)
def test_flops_agree_with_torchs_own_counter(model: str) -> None:
    with torch.device("meta"):
        net = build(model)
        size = SIZE.padded(net.multiple)
        image = torch.zeros(1, 3, size.height, size.width)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(image)
    assert flops.report(model, SIZE, "fp32").total.flops == counter.get_total_flops()


def test_the_total_is_the_sum_of_the_layers() -> None:
    result = flops.report("didanet-tiny", Size(64, 32), "fp32")
    costs = [layer.cost for layer in result.layers]
    for field in ("macs", "flops", "parameters", "activation_bytes", "weight_bytes"):
        assert getattr(result.total, field) == sum(getattr(cost, field) for cost in costs), field


def test_bytes_and_intensity_of_one_layer() -> None:
    result = flops.report("didanet-tiny", Size(64, 32), "fp32")
    tail = next(layer for layer in result.layers if layer.name == "restorer.tail")
    assert tail.output == (1, 3, 32, 64)
    assert tail.cost.parameters == 16 * 3 * 9 + 3
    assert tail.cost.macs == 16 * 3 * 9 * 64 * 32
    assert tail.cost.activation_bytes == 4 * (16 + 3) * 64 * 32
    assert tail.cost.weight_bytes == 4 * (16 * 3 * 9 + 3)
    moved = tail.cost.activation_bytes + tail.cost.weight_bytes
    assert tail.cost.flop_per_byte == pytest.approx(tail.cost.flops / moved)


def test_half_precision_moves_half_the_bytes() -> None:
    full = flops.report("didanet-tiny", Size(64, 32), "fp32").total
    half = flops.report("didanet-tiny", Size(64, 32), "fp16").total
    assert half.macs == full.macs
    assert half.activation_bytes * 2 == full.activation_bytes
    assert half.flop_per_byte == pytest.approx(2 * full.flop_per_byte)


def test_a_size_the_net_cannot_take_is_padded_and_said() -> None:
    result = flops.report("didanet-tiny", Size(61, 30), "fp32")
    assert (result.size, result.padded) == ("61x30", "64x32")
    assert "padded to 64x32" in flops.render(result)


def test_the_papers_figures_stand_beside_the_counted_ones() -> None:
    text = flops.render(flops.report("didanet", SIZE, "fp32"))
    for words in ("4,069,444", "892.31", "1,784.6", "19,200,000", "570.0", "do not fit", "2 FLOP"):
        assert words in text


def test_a_model_without_a_paper_of_its_own_quotes_none() -> None:
    assert flops.report("didanet-tiny", SIZE, "fp32").paper is None


def test_json_goes_out_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "flops.json"
    assert (
        flops.main(["--model", "didanet-tiny", "--size", "64x32", "--json", "--out", str(file)])
        == 0
    )
    printed = capsys.readouterr().out
    assert printed == file.read_text(encoding="utf-8")
    report = decode(FlopsReport, printed)
    assert encode(report) == printed
    assert report.machine.cores >= 1


def test_an_unknown_model_is_wrong_use_and_offers_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert flops.main(["--model", "didnet", "--json"]) == UnknownModelError.exit_code == 2
    captured = capsys.readouterr()
    assert "'didanet'" in captured.err
    assert json.loads(captured.out)["kind"] == "UnknownModelError"


def test_a_size_that_is_none_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert flops.main(["--size", "600"]) == 2
    assert "expected WIDTHxHEIGHT" in capsys.readouterr().err
