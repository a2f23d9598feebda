"""`allfocus bench discs`: what it blurs, what it measures, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Exported

from allfocus import cli
from allfocus.benchmarks import discs
from allfocus.benchmarks.photos import CHELSEA, open_photos
from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import Size

WHOLE = Size(999, 999)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photos, one of them upright, with detail of several pixels."""
    path = tmp_path / "photos"
    path.mkdir()
    for seed, (height, width) in enumerate(((64, 96), (96, 64))):
        coarse = np.random.default_rng(seed).integers(20, 230, (height // 4, width // 4, 3))
        photo = cv2.resize(coarse.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        assert cv2.imwrite(str(path / f"{seed}.png"), photo)
    return path


def test_a_point_of_light_becomes_a_disc() -> None:
    photo = np.zeros((65, 65, 3), np.uint8)
    photo[32, 32] = 255
    found = discs.blurred("point", photo, 5.0, WHOLE, 0)
    y, x = np.indices((65, 65)) - 32
    away, code = np.hypot(y, x), found.blurry[..., 1].astype(float)
    assert code[away < 4].mean() == pytest.approx(29, abs=3)  # 1/79 of the light, by the sRGB curve
    assert code[away > 7].mean() < 6  # noise
    assert code.max() < 60
    assert np.array_equal(found.sharp, photo)
    assert found.radius is not None
    assert (found.radius == 5).all()


def test_noise_alone_is_left_without_blur() -> None:
    photo = np.full((40, 60, 3), 120, np.uint8)
    found = discs.blurred("grey", photo, 0.0, WHOLE, 3)
    again = discs.blurred("grey", photo, 0.0, WHOLE, 3)
    error = found.blurry.astype(float) - 120
    assert 0 < error.std() < 3
    assert abs(error.mean()) < 0.2
    assert np.array_equal(found.blurry, again.blurry)


def test_the_middle_is_turned_with_the_photo() -> None:
    photo = np.zeros((96, 64, 3), np.uint8)
    assert discs.blurred("upright", photo, 1.0, Size(48, 32), 0).blurry.shape == (48, 32, 3)
    wide = photo.transpose(1, 0, 2)
    assert discs.blurred("wide", wide, 1.0, Size(48, 32), 0).blurry.shape == (32, 48, 3)


def test_the_report_has_baselines_and_models(
    tiny: Exported, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "discs.json"
    words = ["bench", "discs", str(folder), "--model", str(tiny.frame), "--radii", "0,2.5"]
    assert cli.main([*words, "--map-of", str(tiny.frame), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "2.5 px" in said
    assert "means over 2 photos" in said
    report = json.loads(out.read_text())
    assert report["schema"] == "allfocus/discs/1"
    assert report["photos"] == ["0", "1"]
    assert report["radii"] == [0, 2.5]
    rows = {row["name"]: row["psnr_db"] for row in report["rows"]}
    under = f"map of {tiny.frame.name}"
    assert list(rows) == [
        "input",
        "wiener, true map",
        "richardson-lucy, true map",
        f"wiener, {under}",
        f"richardson-lucy, {under}",
        tiny.frame.name,
    ]
    assert all(len(values) == 2 for values in rows.values())
    sharp, blurry = rows["input"]
    assert sharp > 40 > blurry
    assert rows["richardson-lucy, true map"][1] > blurry + 1
    assert rows["richardson-lucy, true map"][0] == pytest.approx(sharp, abs=0.5)


def test_baselines_can_be_left_out_and_folders_cut_short(
    tiny: Exported, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "discs", str(folder), "--model", str(tiny.frame), "--radii", "1", "--json"]
    assert cli.main([*words, "--no-baselines", "--pictures", "1", "--size", "48x32"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in report["rows"]] == ["input", tiny.frame.name]
    assert report["photos"] == ["0"]
    assert report["size"] == "48x32"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--radii", "1,-2"), "expected pixels from 0 to"),
        (("--radii", "3,3"), "each once"),
        (("--radii", "99"), "expected pixels from 0 to"),
        (("--radii", "wide"), "expected pixels from 0 to"),
        (("--radii", "nan"), "expected pixels from 0 to"),
        (("--model", "apl-detect-lite"), "gives no picture"),
        (("--map-of", "jdrl-unet-lite"), "estimates no blur radii"),
        (("--model", "didanot"), "didanet"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    folder: Path, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "discs", str(folder), *words]
    status = cli.main(command)
    assert status == 2
    assert said in capsys.readouterr().err


def test_photos_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "0.png").write_bytes((folder / "1.png").read_bytes())
    found = open_photos([str(folder), str(other), CHELSEA])
    assert list(found) == ["0", "1", str(other / "0.png"), CHELSEA]
    assert found["1"].shape == found[str(other / "0.png")].shape


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures in it"):
        open_photos([str(tmp_path)])
