"""`allfocus bench gallery`: which windows it shows, what it writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Exported
from full_disk import full_after

from allfocus import cli
from allfocus.benchmarks import candidates
from allfocus.benchmarks.gallery import most
from allfocus.runtime.errors import UsageError

SIDE = 32


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Detail in the lower right corner only."""
    image = np.full((96, 128, 3), 90, np.uint8)
    image[56:, 80:] = np.random.default_rng(0).integers(0, 256, (40, 48, 3))
    path = tmp_path / "photos" / "corner.png"
    path.parent.mkdir()
    assert cv2.imwrite(str(path), image)
    return path


def test_the_window_with_the_largest_sum_is_taken() -> None:
    score = np.zeros((20, 30), np.float32)
    score[12:16, 22:26] = 1
    rows, columns = most(score, 4)
    assert (rows.start, rows.stop, columns.start, columns.stop) == (12, 16, 22, 26)


def test_a_sheet_has_two_windows_a_photo(
    tiny: Exported, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gallery.png"
    words = ["bench", "gallery", str(photo.parent), "--model", str(tiny.frame), "--out", str(out)]
    assert cli.main([*words, "--side", str(SIDE), "--backend", "cpu", "--json"]) == 0
    kept = json.loads(capsys.readouterr().out)
    assert kept.keys() == {tiny.frame.name} or kept.keys() == {str(tiny.frame)}
    (values,) = kept.values()
    assert values["corner"] > 0
    sheet = cv2.imread(str(out))
    assert sheet is not None
    assert sheet.shape[1] == 2 * (SIDE + 6)  # the input's column and the model's
    assert sheet.shape[0] == 22 + 2 * (SIDE + 6)
    input_detail = sheet[22 + SIDE + 6 :, :SIDE][:SIDE]
    assert input_detail.std() > 50  # the second window is where the detail is


def test_models_are_shown_with_a_reach_too(
    tiny: Exported, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gallery.png"
    words = ["bench", "gallery", str(photo), "--model", str(tiny.frame), "--out", str(out)]
    assert cli.main([*words, "--side", "32", "--backend", "cpu", "--reach", "16", "--json"]) == 0
    plain, farther = json.loads(capsys.readouterr().out)
    assert farther == f"{plain}, reach 16"
    sheet = cv2.imread(str(out))
    assert sheet is not None
    assert sheet.shape[1] == 3 * (SIDE + 6)


def test_a_model_without_a_map_has_no_reach(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "gallery", str(photo), "--model", "jdrl-unet-lite", "--reach", "16"]
    words += ["--out", str(tmp_path / "g.png"), "--side", "32", "--backend", "cpu", "--json"]
    assert cli.main(words) == 2
    assert "--reach 16: none of jdrl-unet-lite makes a map of blur radii" in capsys.readouterr().err
    assert candidates.reaches(("didanet", "jdrl-unet-lite", "a.onnx"), 16) == {
        "didanet": 16,
        "jdrl-unet-lite": None,
        "a.onnx": 16,
    }
    with pytest.raises(UsageError, match="reach: expected a blur radius in pixels above 0, got 0"):
        candidates.reaches(("jdrl-unet-lite",), 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--side", "200"), "smaller than a window of 200"),
        (("--model", "apl-detect-tiny"), "apl-detect-tiny"),
        (("--out", "g.gif"), "no picture format has this suffix"),
    ],
)
def test_wrong_use_is_told(
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    fixed = ["bench", "gallery", str(photo), "--side", "32", "--out", str(tmp_path / "g.png")]
    assert cli.main([*fixed, *words]) != 0
    assert said in capsys.readouterr().err


def test_an_empty_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    words = ["bench", "gallery", str(tmp_path / "empty"), "--out", str(tmp_path / "g.png")]
    assert cli.main(words) == 2
    assert "no pictures in it" in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_picture(
    tiny: Exported, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "g" / "gallery.png"
    words = ["bench", "gallery", str(photo), "--model", str(tiny.frame), "--out", str(out)]
    words += ["--side", str(SIDE), "--backend", "cpu"]
    assert cli.main(words) == 0
    whole = out.read_bytes()
    with full_after(len(whole) - 1):  # a writer may hold the last byte back until it closes
        assert cli.main(words) == 1
    assert "gallery.png: File too large" in capsys.readouterr().err
    assert [path.read_bytes() for path in out.parent.iterdir()] == [whole]
