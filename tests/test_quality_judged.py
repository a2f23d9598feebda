"""Which models and baselines `allfocus eval` judges by which data: pairs, maps, masks."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Exported
from eval_runs import BLIND, SIZE, evaluate, pairs, without_baselines

from allfocus.benchmarks import candidates, quality
from allfocus.benchmarks.pairs import open_data
from allfocus.benchmarks.quality_schema import QualityReport
from allfocus.benchmarks.schema import decode
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pairs(tmp_path / "pairs")


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


def test_all_are_the_models_the_package_has_weights_of() -> None:
    assert "didanet" in candidates.packaged()
    assert "jdrl-reblur" not in candidates.packaged()


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
