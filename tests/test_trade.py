"""`allfocus bench trade` and `bench front`: tables, pictures, and which nets make a front."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus import cli
from allfocus.benchmarks import front, trade
from allfocus.benchmarks.front import Net
from allfocus.benchmarks.pairs import DataSet, open_data
from allfocus.runtime.spec import Size

FIRST = ("didanet-lite", "OpenVINO, CPU", "int8", 1, None)  # of the README's first table


def net(milliseconds: float, psnr: float) -> Net:
    return Net(
        name=f"{milliseconds:g} ms",
        gmac=1.0,
        parameters=1000,
        psnr_db=psnr,
        int8_psnr_db=psnr,
        milliseconds=milliseconds,
        times_as_fast=1.0,
    )


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(20, 29)), min_size=1, max_size=8))
def test_what_no_other_beats_in_both_is_on_the_front(figures: list[tuple[int, int]]) -> None:
    found = front.front([net(float(ms), float(db)) for ms, db in figures])
    for one in found:
        beaten = any(
            (other.milliseconds <= one.milliseconds and other.int8_psnr_db > one.int8_psnr_db)
            or (other.milliseconds < one.milliseconds and other.int8_psnr_db >= one.int8_psnr_db)
            for other in found
        )
        if beaten:
            assert not one.on_front
    assert found[0].on_front


def test_the_fronts_table_and_picture(tmp_path: Path) -> None:
    nets = front.front([net(10, 27.5), net(20, 27.2), net(30, 28.0)])
    lines = front.table(nets, 27.06).splitlines()
    assert lines[2] == "| 10 ms | 1,000 | 1.0 | 27.50 | 27.50 | 10 | 1.0 | yes |"
    assert lines[3].endswith("| |") or lines[3].endswith("|  |")
    front.draw(nets, 27.06, tmp_path / "front.png")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")


def test_a_front_needs_samples_that_are_rendered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(tmp_path), "--init", str(tmp_path / "w.safetensors")]
    assert front.main(given) == 2
    assert "expected samples that `allfocus data render` made" in capsys.readouterr().err
    rendered = ["data", "render", "dead-leaves", "--out", str(tmp_path / "small"), "--count", "10"]
    assert cli.main([*rendered, "--side", "32", "--workers", "1"]) == 0
    given[1] = str(tmp_path / "small")
    assert front.main(given) == 2
    assert (
        "samples of 32 pixels, and 8 bits are calibrated on 160; render them with --side 160"
        in (capsys.readouterr().err)
    )


def test_the_trade_of_a_packaged_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For real, on one small scene: what cannot be had is told, the rest measured."""
    data = open_data("synthetic", 8.0)
    small = DataSet(data.name, data.makers[:1], (), Size(96, 96))
    monkeypatch.setattr(trade, "open_data", lambda *_: small)
    monkeypatch.setattr(trade, "YARDSTICK", "didanet-lite")
    ways = (("cpu", "bf16"), ("cpu", "fp32"))
    monkeypatch.setattr(trade, "WAYS", ways)
    monkeypatch.setattr(trade, "MORE", {"didanet-lite": (("map", None), (2, None), (1, 16.0))})
    words = ["--models", "didanet-lite", "--size", "96x64", "--rounds", "2", "--json"]
    assert trade.main([*words, "--out", str(tmp_path)]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    eager, plain, mapped, twice, farther = printed["rows"]
    assert (eager["psnr_db"], eager["times_as_fast"]["median"]) == (None, 1.0)
    assert plain["lost_db"] == 0.0
    assert plain["psnr_db"] > printed["input_psnr_db"]
    assert [row["passes"] for row in (plain, mapped, twice)] == [1, "map", 2]
    assert len({row["psnr_db"] for row in (plain, mapped, twice)}) == 3
    assert twice["milliseconds"] > plain["milliseconds"]
    assert [row["reach"] for row in (plain, twice, farther)] == [None, None, 16.0]
    assert list(printed["skipped"]) == ["didanet-lite, ONNX Runtime, CPU, bf16"]
    text = (tmp_path / "trade.md").read_text()
    assert "CPU, fp32, map of two |" in text
    assert "not measured: didanet-lite, ONNX Runtime, CPU, bf16: " in text
    assert (tmp_path / "trade.png").is_file()


def test_the_pages_show_the_committed_trade() -> None:
    """All but float32 in OpenVINO, which is hardly faster than in ONNX Runtime."""
    root = Path(__file__).parent.parent
    (file,) = (root / "benchmarks" / "results").glob("trade-*.json")
    kept = json.loads(file.read_text(encoding="utf-8"))
    judged = [row for row in kept["rows"] if row["psnr_db"] is not None]
    text = (root / "docs" / "results.md").read_text(encoding="utf-8").replace("−", "-")
    ways = r"\|.*\| (ONNX Runtime|OpenVINO), \w+(, \d passes|, map of two|, reach \d+)? \|"
    lines = [line for line in text.splitlines() if re.match(ways, line)]
    rows = [row for row in judged if (row["engine"], row["precision"]) != ("OpenVINO, CPU", "fp32")]
    assert len(lines) == len(rows)
    for row in rows:
        engine = row["engine"].removesuffix(", CPU")
        figures = (
            f"| {row['psnr_db']:.2f} | {row['lost_db'] + 0.0:.3f} | {row['milliseconds']:,.0f} |"
        )
        passes = row["passes"]
        more = {1: "", "map": ", map of two"}.get(passes, f", {passes} passes")
        more += "" if row["reach"] is None else f", reach {row['reach']:g}"
        assert any(f"| {engine}, {row['precision']}{more} {figures}" in x for x in lines), figures
    parts = ("model", "engine", "precision", "passes", "reach")
    chosen = [tuple(row[part] for part in parts) for row in rows]
    best = rows[chosen.index(FIRST)]
    readme = (root / "README.md").read_text(encoding="utf-8")
    first = next(line for line in readme.splitlines() if line.startswith("| `"))
    assert f"{best['milliseconds'] / 1e3:.2f} s** | 0.27 s |" in first
    assert f"{kept['input_psnr_db']:.2f} → **{best['psnr_db']:.2f} dB**" in first
