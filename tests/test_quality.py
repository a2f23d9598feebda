"""`allfocus eval` from its words to its table, its files and its exit codes."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Exported
from full_disk import full_after

from allfocus import cli
from allfocus.benchmarks import candidates, quality
from allfocus.benchmarks.pairs import open_data
from allfocus.benchmarks.quality_schema import QualityReport
from allfocus.benchmarks.quality_sheet import Sheet, most_different
from allfocus.benchmarks.quality_text import render, tables
from allfocus.benchmarks.schema import decode
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.train.evaluation_pair import Pair
from allfocus.train.metrics import psnr

SIZE = (24, 32)
BLIND = candidates.Candidate(
    name="blind", kind="model", run=lambda _, given: candidates.Output(image=given)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pairs with maps, half of each in focus."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pairs"
    for name in ("blurry", "sharp", "defocus"):
        (root / name).mkdir(parents=True)
    for index in range(2):
        sharp = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        radius = np.zeros(SIZE, np.uint8)
        radius[:, 16:] = 96
        pictures = {"sharp": sharp, "blurry": cv2.blur(sharp, (5, 5)), "defocus": radius}
        for name, picture in pictures.items():
            cv2.imwrite(str(root / name / f"photo{index}.png"), picture)
    return root


def evaluate(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = cli.main(["eval", *(str(word) for word in words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    quality.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def without_baselines(tiny: Exported, folder: Path) -> tuple[object, ...]:
    options = ("--backend", "cpu", "--threads", 1, "--no-baselines")
    return ("--model", tiny.frame, "--data", folder, *options)


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


def test_baselines_come_before_the_models(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy", reason="classical baselines need SciPy")
    words = [word for word in without_baselines(tiny, folder) if word != "--no-baselines"]
    status, out, _ = evaluate(capsys, *words, "--json")
    assert status == 0
    names = [row.name for row in decode(QualityReport, out).rows]
    assert names == ["input", "wiener, true map", "richardson-lucy, true map", tiny.frame.name]


def test_without_maps_baselines_take_a_models_map(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy", reason="classical baselines need SciPy")
    for picture in (folder / "defocus").iterdir():
        picture.unlink()
    (folder / "defocus").rmdir()
    place = cache_dir() / "key" / "didanet-tiny-fp32-any.onnx"
    place.parent.mkdir(parents=True)
    place.write_bytes(tiny.float.read_bytes())
    words = ("--model", "didanet-tiny", "--data", folder, "--backend", "cpu", "--threads", 1)
    status, out, _ = evaluate(capsys, *words)
    assert status == 0
    assert "| wiener, map of didanet-tiny | " in out
    assert "| `didanet-tiny` | " in out
    status, out, _ = evaluate(capsys, *words[2:], "--model", tiny.frame)  # not by its name alone
    assert status == 0
    assert f"| wiener, map of {tiny.frame.name} | " in out
    status, _, err = evaluate(capsys, *words, "--by-radius")
    assert status == 2
    assert "has no maps" in err


def test_without_any_map_there_are_no_baselines(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "defocus")
    monkeypatch.setattr(quality, "open_model", lambda *_, **__: nullcontext(BLIND))
    status, out, _ = evaluate(capsys, "--model", "jdrl-unet-tiny", "--data", folder)
    assert status == 0
    assert "no classical baselines: the data have no maps, and no model here gives any" in out


def test_a_map_alone_cannot_be_judged_without_maps(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(folder / "defocus")
    sees = replace(
        BLIND, name="sees", run=lambda _, given: candidates.Output(focus=given[..., 0] / 255.0)
    )
    monkeypatch.setattr(quality, "open_model", lambda *_, **__: nullcontext(sees))
    status, out, err = evaluate(capsys, "--model", "apl-detect-tiny", "--data", folder)
    assert (status, out) == (2, "")
    assert "sees gives a map alone, and these data have no maps to judge it by; take" in err


@pytest.mark.parametrize("data", ["folder", "masks"])
def test_of_all_models_those_are_judged_that_can_be(
    data: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where: Path = request.getfixturevalue(data)
    if data == "folder":
        shutil.rmtree(where / "defocus")
    sees = replace(
        BLIND, name="sees", run=lambda _, given: candidates.Output(focus=given[..., 0] / 255.0)
    )
    models = {"didanet": BLIND, "didanet-lite": sees}
    monkeypatch.setattr(candidates, "packaged", lambda: tuple(models))
    monkeypatch.setattr(quality, "open_model", lambda name, *_, **__: nullcontext(models[name]))
    status, out, _ = evaluate(capsys, "--data", where)
    assert status == 0
    judged, left = ("blind", "sees") if data == "folder" else ("sees", "blind")
    assert f"| `{judged}` |" in out
    assert f" is left out: {left} gives " in out
    monkeypatch.setattr(candidates, "packaged", lambda: tuple(models)[data == "folder" :][:1])
    status, out, err = evaluate(capsys, "--data", where)
    assert (status, out) == (2, "")
    assert "--model all: none can be judged: " in err
    assert " gives " in err


def test_of_all_models_those_have_a_reach_that_make_a_map(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    def opened(name: str, *_: Any, reach: float | None, **__: Any) -> Any:
        assert reach == 32
        if name == "didanet":
            raise UsageError("reach=32: didanet makes no map")
        return nullcontext(BLIND)

    monkeypatch.setattr(candidates, "packaged", lambda: ("didanet", "didanet-lite"))
    monkeypatch.setattr(quality, "open_model", opened)
    status, out, _ = evaluate(capsys, "--data", folder, "--reach", "32")
    assert status == 0
    assert "didanet is left out: reach=32: didanet makes no map" in out
    status, out, err = evaluate(capsys, "--data", folder, "--reach", "32", "--model", "didanet")
    assert (status, out) == (2, "")
    assert "reach=32: didanet makes no map" in err
    status, _, err = evaluate(capsys, "--data", folder, "--reach", "-1")
    assert (status, "reach: expected a blur radius" in err) == (2, True)


def test_all_may_stand_beside_others() -> None:
    every = ("didanet", "didanet-lite")
    assert candidates.names("all,sftnet-lite,didanet", every) == [*every, "sftnet-lite"]
    assert candidates.names("sftnet-lite, all", every) == ["sftnet-lite", *every]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--deform", "--size", "200x12"), r"--deform: .* at least 16x16 pixels, .* is 32x12"),
        (("--map-radius", "100", "--baselines"), "baselines take up to 64 pixels, got 100"),
        (("--size", "8x20"), r"SSIM needs .* at least 11x11 pixels, and photo0 is 8x20; .* --size"),
    ],
)
def test_what_would_end_the_work_is_told_before_it(
    tiny: Exported,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.setattr(quality, "judge", lambda *_: pytest.fail("work began"))
    status, out, err = evaluate(capsys, *without_baselines(tiny, folder), *words)
    assert (status, out) == (2, "")
    assert re.search(said, err)


def test_a_large_map_radius_is_for_models(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, _ = evaluate(capsys, *without_baselines(tiny, folder), "--map-radius", "100")
    assert status == 0


def test_a_full_disk_leaves_no_half_sheet(tiny: Exported, folder: Path, tmp_path: Path) -> None:
    report, _ = quality.evaluate(
        parsed(*without_baselines(tiny, folder)), open_data(str(folder), 8.0)
    )
    noise = np.random.default_rng(0).integers(0, 256, (2, 200, 300, 3), np.uint8)
    sheet = Sheet(1)
    sheet.look("input", 0, Pair("noise", *noise, None, None), candidates.Output(image=noise[0]))
    path = tmp_path / "quality.png"
    quality.write(report, "text", sheet, tmp_path)
    whole = path.read_bytes()
    last = len(whole) - 1  # which a writer may hold back until it closes the file
    with full_after(last), pytest.raises(AllfocusError, match=r"quality\.png: File too large"):
        quality.write(report, "text", sheet, tmp_path)
    assert path.read_bytes() == whole


def test_a_detector_is_judged_by_what_is_in_focus(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript", reason="exporting needs torch and onnxscript")
    from allfocus.export.to_onnx import export, write
    from allfocus.runtime.catalogue import MODELS
    from allfocus.runtime.spec import Graph
    from allfocus.train.checkpoint import random

    net, spec = random("apl-detect-tiny", seed=1)
    signature = MODELS["apl-detect-tiny"].signature("whole")
    graph = Graph(io="frame", precision="fp32", color="rgb", shapes=None, signature=signature)
    path = tmp_path / "detect.onnx"
    write(export(net.eval(), spec, graph), path)
    words = ("--model", path, "--data", folder, "--backend", "cpu", "--no-baselines")
    status, out, _ = evaluate(capsys, *words, "--json", "--out", tmp_path / "out")
    assert status == 0
    row = decode(QualityReport, out).rows[1]
    assert row.similarity is None
    assert row.detection is not None
    assert 0.5 < row.detection.f_max <= 1
    assert row.detection.mae is not None


def test_what_is_not_exported_is_told_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "judge", lambda *_: pytest.fail("work began"))
    words = ("--data", folder, "--backend", "cpu")
    status, _, err = evaluate(capsys, "--model", "didanet,sftnet-tiny", *words)
    assert status == 1
    assert "allfocus export --model sftnet-tiny" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "didanat"), "did you mean 'didanet'"),
        (("--model", ","), "expected names of models"),
        (("--model", "didanet,wiener"), "is a classical baseline"),
        (("--model", "jdrl-reblur-tiny"), "takes sharp, blurry"),
        (("--data", "nowhere"), "nowhere: not a folder; expected"),
    ],
)
def test_wrong_use_is_told(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = evaluate(capsys, "--no-baselines", "--data", folder, *words)
    assert status == 2
    assert said in err
    assert out == ""


def test_a_model_that_fails_ends_it_with_its_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def run(pair: Pair, _: candidates.Given) -> candidates.Output:
        raise RuntimeError(f"no memory for {pair.blurry.shape}")

    failing = candidates.Candidate(name="didanet", kind="model", run=run)
    monkeypatch.setattr(quality, "open_model", lambda *_, **__: nullcontext(failing))
    words = ("--model", "didanet", "--data", folder, "--no-baselines", "--out", tmp_path / "out")
    status, out, err = evaluate(capsys, *words)
    assert status == 1
    assert "didanet on photo0: no memory for (24, 32, 3)" in err
    assert out == ""
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_told_before_any_work(
    tiny: Exported, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(quality, "judge", lambda *_: pytest.fail("work began"))
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        words = (*without_baselines(tiny, folder), "--out", tmp_path / out)
        status, _, err = evaluate(capsys, *words)
        assert status == 2
        assert "file is a file, where a folder was expected" in err


def test_the_table_is_shown_even_where_it_cannot_be_written(
    tiny: Exported, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(*_: object) -> None:
        raise AllfocusError("cannot write")

    monkeypatch.setattr(quality, "write", full)
    words = (*without_baselines(tiny, folder), "--out", tmp_path / "out")
    status, out, err = evaluate(capsys, *words)
    assert status == 1
    assert "cannot write" in err
    assert f"| `{tiny.frame.name}` | " in out


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


def test_a_picture_that_cannot_be_read_ends_it_with_its_name(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sharp" / "photo1.png").write_bytes(b"no picture")
    status, out, err = evaluate(capsys, *without_baselines(tiny, folder))
    assert status == 1
    assert "photo1.png: not a picture" in err
    assert out == ""


def test_a_frame_graph_cannot_take_float_pictures(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = without_baselines(tiny, folder)
    status, _, err = evaluate(capsys, *words, "--float")
    assert status == 1
    assert "photo0" in err
    status, out, _ = evaluate(capsys, "--model", tiny.float, *words[2:], "--float")
    assert status == 0
    assert "output as float" in out


def test_the_readme_holds_the_tables_of_the_results() -> None:
    root = Path(__file__).parent.parent
    kept = root / "benchmarks" / "results" / "quality-xeon-2core.json"
    report = decode(QualityReport, kept.read_text(encoding="utf-8"))
    shown = (root / "README.md").read_text(encoding="utf-8")
    assert all(table in shown for table in tables(report, by_radius=True))


def test_all_are_the_models_the_package_has_weights_of() -> None:
    assert "didanet" in candidates.packaged()
    assert "jdrl-reblur" not in candidates.packaged()


def test_without_scikit_image_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from allfocus.train import evaluation_scenes

    evaluation_scenes.load_photo.cache_clear()
    for name in ("skimage", "skimage.data"):
        monkeypatch.setitem(sys.modules, name, None)
    status, _, err = evaluate(capsys, "--model", "didanet", "--data", "synthetic")
    assert status == 1
    assert 'pip install "allfocus[bench]"' in err


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


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Two pictures with masks in CUHK's layout: detail on the left, which is in focus."""
    root = tmp_path / "cuhk"
    for name in ("image", "gt"):
        (root / name).mkdir(parents=True)
    for index in range(2):
        picture = np.full((*SIZE, 3), 90, np.uint8)
        picture[:, :16] = np.random.default_rng(index).integers(0, 256, (SIZE[0], 16, 3))
        mask = np.zeros(SIZE, np.uint8)
        mask[:, :16] = 255
        cv2.imwrite(str(root / "image" / f"out_of_focus{index}.png"), picture)
        cv2.imwrite(str(root / "gt" / f"out_of_focus{index}.png"), mask)
    return root


def test_masks_alone_judge_what_is_called_in_focus(
    tiny: Exported, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", tiny.frame, "--data", masks, "--backend", "cpu", "--threads", 1)
    status, out, _ = evaluate(capsys, *words, "--json", "--out", tmp_path / "out")
    assert status == 0
    report = decode(QualityReport, out)
    (row,) = report.rows  # neither the input nor a baseline tells what is in focus
    assert (row.similarity, row.map, row.whole.psnr_db) == (None, None, None)
    assert row.detection is not None
    assert 0 < row.detection.f_max <= 1
    assert any("no sharp pictures" in note for note in report.notes)
    assert "F_max: over all pixels, of those that the masks say are in focus" in report.notes
    assert not any("PSNR" in note or "map MAE" in note for note in report.notes)
    assert (tmp_path / "out" / "quality.png").is_file()


def test_masks_are_in_focus_where_they_are_white(masks: Path) -> None:
    for pair in open_data(str(masks), 8.0):
        assert pair.sharp is None
        assert pair.radius is None
        assert pair.in_focus is not None
        assert pair.in_focus[:, :16].all()
        assert not pair.in_focus[:, 16:].any()


def test_a_model_without_a_map_cannot_be_judged_by_masks(
    masks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "open_model", lambda *_, **__: nullcontext(BLIND))
    status, _, err = evaluate(capsys, "--model", "jdrl-unet-tiny", "--data", masks)
    assert status == 2
    assert "blind gives no map" in err


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
