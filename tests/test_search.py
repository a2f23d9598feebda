"""The search for layers that 8 bits hurt, on stand-ins whose losses are known, and for real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quantised import TINY, net_and_spec

from allfocus.export import calibration, trade_text
from allfocus.export import ranges as ranges_file
from allfocus.export import search as search_module
from allfocus.export.eight_bits import Original, reduce, saved_ranges
from allfocus.export.quality import Loss, Quality, Speed
from allfocus.export.reduction import Reduction
from allfocus.export.search import Search, ranked
from allfocus.runtime.errors import ParityError, UsageError
from allfocus.train import checkpoint


class Known:
    """Graphs are lists of the layers that are kept; each other one costs its decibels."""

    def __init__(self, costs: dict[str, float], base: float = 0.0) -> None:
        self.costs, self.base = costs, base
        self.measured: list[tuple[str, ...]] = []

    def loss(self, model: Any, what: str) -> Loss:
        assert what.startswith("8 bits")
        self.measured.append(tuple(model))
        lost = self.base + sum(cost for name, cost in self.costs.items() if name not in model)
        return Loss(30 - lost, 30.0, 50.0, 20)

    def speed(self, model: Any, dialect: str) -> Speed | None:
        assert dialect == "ort"
        return Speed("made up", 10.0 + len(model), 5.0 - 0.1 * len(model))


def searching(
    known: Known, limit: float, monkeypatch: pytest.MonkeyPatch, never: Sequence[str] = ()
) -> Search:
    def order(work: dict[str, float], *_: Any) -> tuple[str, ...]:
        return tuple(sorted(work, key=lambda name: -known.costs[name]))

    monkeypatch.setattr(search_module, "ranked", order)
    work = dict.fromkeys(known.costs, 1.0)
    return Search(work, lambda kept: tuple(kept), known, "ort", limit, never)  # type: ignore[arg-type,return-value]


@pytest.fixture(scope="module")
def original() -> Original:
    """A net with random weights, judged on one scene."""
    return Original(*net_and_spec(), 1)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def few_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges are found on them, which takes most of the time."""
    monkeypatch.setattr(calibration, "COUNT", 4)


@given(
    costs=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    limit=st.floats(0, 3),
)
def test_the_fewest_of_the_worst_layers_are_raised(costs: list[float], limit: float) -> None:
    known = Known({f"l{i}": cost for i, cost in enumerate(costs)})
    with pytest.MonkeyPatch.context() as patch:
        trade = searching(known, limit, patch).run(())
    rest = sorted(costs, reverse=True)
    fewest = next(k for k in range(len(costs) + 1) if 30 - (30 - sum(rest[k:])) <= limit)
    assert trade.holds
    assert abs(len(trade.taken.kept) - fewest) <= 1  # sums of floats in another order
    assert len(known.measured) == len(set(known.measured)), "no choice is measured twice"


def test_nothing_is_raised_where_nothing_hurts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known({"a": 0.01, "b": 0.01})
    trade = searching(known, 0.05, monkeypatch).run(())
    assert trade.taken.kept == ()
    assert trade.taken.share == 1.0
    assert len(trade.steps) == 1


def test_what_is_never_in_8_bits_is_kept_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known({"a": 0.02, "b": 0.5, "c": 0.01})
    search = searching(known, 0.05, monkeypatch, never=("a",))
    assert [step.kept for step in search.run(()).steps] == [("a",), ("a", "b")]
    assert search.once(("a", "c")).taken.kept == ("a", "c")
    assert search.once().taken.share == pytest.approx(2 / 3)


def test_a_limit_that_no_choice_reaches_is_told(
    cache: Path, original: Original, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known({"a": 0.1, "b": 0.1}, base=0.02)
    trade = searching(known, 0.01, monkeypatch).run(())
    assert not trade.holds
    assert trade.taken.kept == ("a", "b")
    monkeypatch.setattr("allfocus.export.eight_bits.cache_dir", lambda: cache)
    monkeypatch.setattr(Search, "run", lambda *_: trade)
    how = Reduction(purpose="ort", kind="int8", max_loss=0.01, search=True)
    with pytest.raises(ParityError, match=r"--max-loss 0.01dB cannot be reached: .* 0.0200 dB"):
        reduce(original, how)
    assert not reduce(original, replace(how, forced=True)).trade.holds


def test_ranges_that_were_kept_and_are_damaged_are_found_again(
    cache: Path, original: Original, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allfocus.export.eight_bits.cache_dir", lambda: cache)
    monkeypatch.setattr(Quality, "loss", lambda *_: Loss(26.0, 26.0, 50.0, 1))
    monkeypatch.setattr(Quality, "speed", lambda *_: None)
    how = Reduction(purpose="ort", kind="int8")
    saved_ranges(original.spec, how).write_text("{")
    found = reduce(original, how)
    assert ranges_file.read(saved_ranges(original.spec, how)) == found.bits.ranges


def test_the_table_and_the_picture_have_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Known({"a": 0.3, "b": 0.2, "c": 0.01})
    trade = searching(known, 0.05, monkeypatch).run(())
    assert trade.taken.kept == ("a", "b")
    names = [path.name for path in trade_text.write(trade, tmp_path / "net-int8")]
    assert names[:2] == ["net-int8-trade.md", "net-int8-trade.json"]
    text = (tmp_path / "net-int8-trade.md").read_text()
    assert text.count("\n| ") == 1 + len(trade.steps)
    assert "| 2 | 33.3 % | 29.990 | 0.0100 | 50.0 | 4.80 | taken |" in text


def test_a_layer_that_is_hurt_most_for_its_work_comes_first() -> None:
    """Graphs add up a damage for each layer that is not kept."""
    damage = {"small": 0.1, "large": 0.2, "none": 0.0}

    def make(kept: Sequence[str]) -> onnx.ModelProto:
        added = float(sum(each for name, each in damage.items() if name not in kept))
        helper = onnx.helper
        value = onnx.numpy_helper.from_array(np.float32(added), "added")
        node = helper.make_node("Add", ["image", "added"], ["sharp"])
        ends = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, None, None])
            for name in ("image", "sharp")
        ]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], [value])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    crop = np.zeros((1, 3, 4, 4), np.float32)
    assert ranked({"small": 1.0, "large": 8.0, "none": 1.0}, make, [crop]) == (
        *("small", "large"),
        "none",
    )


def test_a_net_is_reduced_and_its_ranges_are_kept(
    cache: Path, original: Original, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allfocus.export.eight_bits.cache_dir", lambda: cache)
    how = Reduction(purpose="ort", kind="int8", max_loss=1.0)
    found = reduce(original, how)
    assert found.bits.kept == ()
    assert found.trade.taken.speed is not None
    assert found.label(1.0)["dialect"] == "ort"
    assert abs(found.figures(1.0)["loss_db"]) < 1.0
    assert len(list(cache.glob(f"ranges-{TINY}-*-mse-*.json"))) == 1
    monkeypatch.setattr("allfocus.export.observe.observe", None)  # would fail if it were called
    again = reduce(original, how)
    assert again.bits.ranges == found.bits.ranges


def test_what_loses_too_much_is_refused_unless_it_is_forced(
    cache: Path, original: Original, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allfocus.export.eight_bits.cache_dir", lambda: cache)
    lost = Loss(25.0, 26.0, 30.0, 1)
    monkeypatch.setattr(Quality, "loss", lambda *_: lost)
    monkeypatch.setattr(Quality, "speed", lambda *_: None)
    how = Reduction(purpose="ort", kind="int8", max_loss=0.1)
    with pytest.raises(ParityError, match=r"loses 1.000 dB .* \(25\.0000 instead of 26\.0000\)"):
        reduce(original, how)
    forced = Reduction(purpose="ort", kind="int8", max_loss=0.1, forced=True)
    assert not reduce(original, forced).trade.holds


def test_a_net_that_is_no_deblurrer_of_single_pictures_is_refused() -> None:
    net, spec = checkpoint.random("jdrl-reblur-tiny", 0)
    with pytest.raises(UsageError, match="nothing tells what 8 bits cost it"):
        Original(net.eval(), spec)
