"""Files of a model's phases beside one of the whole: made at once, and found by its path."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import allfocus
from allfocus.export import to_onnx, to_trt
from allfocus.runtime.errors import UsageError

SHARED = ("--precision", "fp32", "--onnx-only", "--json")


def exported(*options: str) -> dict[str, Any]:
    with redirect_stdout(StringIO()) as said:
        assert to_trt.main([*options, *SHARED]) == 0
    report: dict[str, Any] = json.loads(said.getvalue())
    return report


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all")
    options = ("--model", "didanet-tiny", "--weights", "random:0", "--size", "128x96")
    report = exported(*options, "--phase", "all", "--out", str(folder))
    assert list(report["phases"]) == ["whole", "estimate", "restore"]
    return folder


@pytest.fixture
def three(made: Path, tmp_path: Path) -> dict[str, Path]:
    """Copies of the three files, by phase."""
    names = {
        phase: f"didanet-tiny{end}-fp32-128x96.onnx"
        for phase, end in (("whole", ""), ("estimate", "-estimate"), ("restore", "-restore"))
    }
    return {phase: Path(shutil.copy(made / name, tmp_path / name)) for phase, name in names.items()}


def photo() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def test_all_phases_are_made_and_do_what_one_by_name_does(three: dict[str, Path]) -> None:
    with allfocus.load(three["whole"], backend="cpu", skip="off") as deblur:
        expected = deblur(photo())
        assert expected.defocus is not None
        given = deblur(photo(), defocus=expected.defocus)
        assert np.abs(given.image.astype(int) - expected.image).max() <= 1
        assert deblur.variant(skip=1.0, coarse_map=True)(photo()).skipped is not None


def test_files_of_any_size_are_named_after_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.onnx"
    options = ["--model", "didanet-tiny", "--weights", "random:0"]  # as other tests export it
    assert to_onnx.main([*options, "--phase", "all", "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["phases"]
    names = [Path(report[phase]["onnx"]).name for phase in ("whole", "estimate", "restore")]
    assert names == ["mine.onnx", "mine-estimate.onnx", "mine-restore.onnx"]
    with allfocus.load(out, backend="cpu") as deblur:
        assert deblur(photo(), defocus=np.zeros((96, 128), np.float32)).skipped == 1


def test_those_of_the_cache_are_found_there(three: dict[str, Path], own_cache: Path) -> None:
    for phase, file in three.items():
        (own_cache / phase).mkdir(parents=True)
        file.rename(own_cache / phase / file.name)
    with allfocus.load(own_cache / "whole" / three["whole"].name, backend="cpu") as deblur:
        assert deblur(photo(), defocus=np.zeros((96, 128), np.float32)).skipped == 1


def test_without_them_it_is_said_how_to_make_them(three: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = tmp_path / "alone" / three["whole"].name
    shutil.copy(three["whole"], alone)
    with pytest.raises(UsageError, match="export --model didanet-tiny --phase all` makes all"):
        allfocus.load(alone, backend="cpu", skip=1.0)
    renamed = three["whole"].with_name("other.onnx")
    shutil.copy(three["whole"], renamed)
    with (
        allfocus.load(renamed, backend="cpu") as deblur,
        pytest.raises(UsageError, match="--phase all` makes them"),
    ):
        deblur.variant(coarse_map=True)


def test_those_of_other_weights_are_told_of_and_left(
    three: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    options = ("--model", "didanet-tiny", "--weights", "random:1", "--size", "128x96")
    folder = str(three["whole"].parent)
    exported(*options, "--phase", "restore", "--out", folder)
    with (
        allfocus.load(three["whole"], backend="cpu") as deblur,
        pytest.raises(UsageError, match="no files of its phases"),
    ):
        deblur(photo(), defocus=np.zeros((96, 128), np.float32))
    assert "its phases are of other weights or another face" in caplog.text
    assert "with --phase all" in caplog.text


def test_a_model_of_one_phase_has_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", "jdrl-unet-tiny", "--weights", "random:0", "--size", "64x64")
    report = exported(*options, "--phase", "all", "--out", str(tmp_path))
    assert list(report["phases"]) == ["whole"]
    assert to_trt.main([*options, "--phase", "some", *SHARED]) == 2
    assert "no phase 'some'" in capsys.readouterr().err
