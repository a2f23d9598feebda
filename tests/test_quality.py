"""`allfocus eval` from its words to its table and its files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Exported
from eval_runs import evaluate, pairs, without_baselines

from allfocus.benchmarks import candidates
from allfocus.benchmarks.quality_schema import QualityReport
from allfocus.benchmarks.quality_sheet import Sheet, most_different
from allfocus.benchmarks.quality_text import render, tables
from allfocus.benchmarks.schema import decode
from allfocus.train.evaluation_pair import Pair
from allfocus.train.metrics import psnr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pairs(tmp_path / "pairs")


def test_the_table_and_the_files(
    tiny: Exported, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*without_baselines(tiny, folder), "--by-radius", "--out", tmp_path / "out")
    status, out, _ = evaluate(capsys, *words)
    assert status == 0
    assert "| input | " in out
    assert f"| `{tiny.frame.name}` | " in out
    assert "didanet-tiny-fp32-frame.onnx has random weights" in out
    assert "no LPIPS" in out or "| LPIPS |" in out
    assert (tmp_path / "out" / "quality.md").read_text(encoding="utf-8") == out
    report = decode(QualityReport, (tmp_path / "out" / "quality.json").read_text(encoding="utf-8"))
    blurred, net = report.rows
    pictures = [cv2.imread(str(folder / n / "photo0.png")) for n in ("blurry", "sharp")]
    expected = psnr(*(np.asarray(picture) / 255.0 for picture in pictures))
    assert blurred.pictures[0].similarity is not None
    assert blurred.pictures[0].similarity.psnr_db == pytest.approx(expected, abs=1e-4)
    assert f"| input | {blurred.similarity and blurred.similarity.psnr_db:.2f} |" in out
    assert net.weights_sha256 == tiny.spec.weights_sha256
    assert net.backend == "cpu"
    assert net.map is not None
    assert [band.pixels for band in net.bands] == [2 * 24 * 16, 0, 2 * 24 * 16, 0, 0]
    assert (report.pictures, report.pixels) == (2, 2 * 24 * 32)
    assert cv2.imread(str(tmp_path / "out" / "quality.png")) is not None


def test_what_is_passed_through_can_be_chosen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What skipping costs is the difference: here everything is passed through."""
    words = (
        "--model",
        "didanet-lite",
        "--data",
        folder,
        "--no-baselines",
        "--threads",
        1,
        "--json",
    )
    found = {}
    for skip in ("1000", "off"):
        status, out, _ = evaluate(
            capsys, *words, "--backend", "cpu", "--threads", 1, "--skip", skip
        )
        assert status == 0
        report = decode(QualityReport, out)
        assert any(f"--skip {float(skip) if skip != 'off' else skip}" in n for n in report.notes)
        found[skip] = [row.pictures[0].similarity for row in report.rows]
    assert found["1000"][1] == found["1000"][0]
    assert found["off"][1] != found["off"][0]


def test_json_is_the_report(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*without_baselines(tiny, folder), "--json", "--limit", 1)
    status, out, _ = evaluate(capsys, *words)
    assert status == 0
    report = decode(QualityReport, out)
    assert report.pictures == 1
    assert "only the first 1 of 2 pictures" in report.notes
    sha256 = report.rows[-1].weights_sha256
    assert sha256
    assert f"- weights: {report.rows[-1].name} {sha256[:12]}\n" in render(report, by_radius=False)


def test_a_large_map_radius_is_for_models(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = evaluate(capsys, *without_baselines(tiny, folder), "--map-radius", "100")
    assert status == 0


def test_files_of_one_name_are_told_apart(
    tiny: Exported,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.onnx").write_bytes(tiny.frame.read_bytes())
    monkeypatch.chdir(tmp_path)
    words = ("--model", "x/m.onnx,y/m.onnx", "--data", folder, "--backend", "cpu", "--json")
    status, out, _ = evaluate(capsys, *words, "--no-baselines")
    assert status == 0
    names = [row.name for row in decode(QualityReport, out).rows]
    assert names == ["input", "x/m.onnx", "y/m.onnx"]


def test_the_page_holds_the_tables_of_the_results() -> None:
    root = Path(__file__).parent.parent
    kept = root / "benchmarks" / "results" / "quality-epyc-2core.json"
    report = decode(QualityReport, kept.read_text(encoding="utf-8"))
    shown = (root / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(table in shown for table in tables(report, by_radius=True))


def test_no_torch_is_needed() -> None:
    from test_imports import run

    code = """
import sys
import allfocus.benchmarks.quality, allfocus.train.evaluation_scenes
import allfocus.benchmarks.baselines
assert "torch" not in sys.modules
"""
    run(code)


def test_the_sheet_shows_where_input_and_truth_differ() -> None:
    sharp = np.zeros((200, 300, 3), np.uint8)
    blurry = sharp.copy()
    blurry[150:160, 200:210] = 255
    pair = Pair("one", blurry, sharp, None, None)
    rows, columns = most_different(pair)
    assert rows.start <= 150 < 160 <= rows.stop
    assert columns.start <= 200 < 210 <= columns.stop
    sheet = Sheet(1)
    for name, output in (
        ("input", candidates.Output(image=blurry)),
        ("detector", candidates.Output(focus=np.ones((200, 300), np.float32))),
    ):
        sheet.look(name, 0, pair, output)
        sheet.look(name, 1, pair, output)  # not shown: the sheet was made for one picture
    drawn = sheet.draw()
    assert drawn.shape[1] == 3 * (2 * 112 + 6)
    cell = drawn[30:240, : 2 * 112]
    assert {0, 255} <= set(np.unique(cell))
    assert (drawn[30:240, 230 : 230 + 224] == 255).all()
    assert (drawn[30:240, 460 : 460 + 224] == 0).all()


def test_figures_are_of_fp32_or_of_the_file_as_it_is(tiny: Exported) -> None:
    """The fastest on this machine would be another on the next."""
    settled = candidates.reproducible
    assert settled("didanet", "auto", None) == ("onnxruntime", "fp32")
    assert settled("didanet", "openvino", None) == ("openvino", "fp32")
    assert settled("didanet", "auto", "int8") == ("auto", "int8")
    assert settled(str(tiny.frame), "auto", None) == ("onnxruntime", "fp32")
    assert settled("x.engine", "auto", None) == ("auto", "auto")


def test_a_precision_is_told_in_the_table_and_refused_where_there_is_no_file(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = without_baselines(tiny, folder)
    status, out, _ = evaluate(capsys, *words, "--precision", "fp32", "--json")
    assert status == 0
    assert [row["precision"] for row in json.loads(out)["rows"]] == [None, "fp32"]
    status, _, err = evaluate(capsys, *words, "--precision", "int8")
    assert status == 2
    assert "a file of fp32, which is not computed in int8" in err
