"""`allfocus eval --map-of`: models under another map than their own."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_graphs import Floats

pytest.importorskip("skimage.data", reason="the built-in set's photos are scikit-image's")

from allfocus import cli
from allfocus.benchmarks.candidates import open_model
from allfocus.benchmarks.guided import TRUE
from allfocus.benchmarks.quality_schema import QualityReport
from allfocus.benchmarks.quality_text import tables
from allfocus.benchmarks.schema import decode
from allfocus.runtime.errors import UsageError

QUICK = ("--limit", "1", "--size", "96x96", "--no-baselines", "--threads", "1")


def evaluate(capsys: pytest.CaptureFixture[str], *words: str) -> QualityReport:
    assert cli.main(["eval", *words, *QUICK, "--json"]) == 0
    return decode(QualityReport, capsys.readouterr().out)


def test_under_the_true_map_a_model_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    models = "didanet-nano,jdrl-unet-lite"
    report = evaluate(capsys, "--model", models, "--map-of", TRUE)
    names = [row.name for row in report.rows]
    assert names == ["input", "didanet-nano", "didanet-nano, true map", "jdrl-unet-lite"]
    own, true = report.rows[1:3]
    assert own.similarity is not None
    assert true.similarity is not None
    assert true.similarity.psnr_db > own.similarity.psnr_db
    assert own.map is not None
    assert true.map is None  # it is not the model's
    assert true.weights_sha256 == own.weights_sha256
    assert any("true map: the model deblurs by that map" in note for note in report.notes)


def test_another_models_map(capsys: pytest.CaptureFixture[str]) -> None:
    """didanet-nano has the estimator of didanet-lite."""
    report = evaluate(capsys, "--model", "didanet-nano", "--map-of", "didanet-lite")
    _, own, under = report.rows
    assert under.name == "didanet-nano, map of didanet-lite"
    assert own.similarity is not None
    assert under.similarity is not None
    assert under.similarity.psnr_db == pytest.approx(own.similarity.psnr_db, abs=0.02)


def pairs(folder: Path, *names: str) -> Path:
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    for name in names:
        (folder / name).mkdir()
        plane = picture[..., 0] if name in ("defocus", "masks") else picture
        cv2.imwrite(str(folder / name / "a.png"), plane)
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["eval", *words, *QUICK]) == UsageError.exit_code
    return capsys.readouterr().err


def test_what_cannot_be_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nano = ("--model", "didanet-nano", "--map-of")
    said = refused(capsys, "--model", "jdrl-unet-lite,sftnet-lite", "--map-of", TRUE)
    assert "none of jdrl-unet-lite, sftnet-lite takes a map from outside" in said
    assert "Packaged are those of didanet, didanet-lite, didanet-nano" in said
    assert "jdrl-unet-lite: it gives no map of blur radii" in refused(
        capsys, *nano, "jdrl-unet-lite"
    )
    assert "apl-detect-lite: it gives no map of blur" in refused(capsys, *nano, "apl-detect-lite")
    assert "unknown model 'tru'" in refused(capsys, *nano, "tru")
    data = ("--data", str(pairs(tmp_path, "blurry", "sharp")))
    assert "true: it gives no map of blur radii here" in refused(capsys, *nano, f" {TRUE} ", *data)
    for text in ("", "all"):
        assert f"--map-of {text!r}: expected a model, or `true`" in refused(capsys, *nano, text)


def test_data_without_sharp_pictures_have_nothing_to_judge_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("--data", str(pairs(tmp_path, "images", "masks")))
    said = refused(capsys, "--model", "didanet-nano", "--map-of", "didanet-lite", *data)
    assert "no sharp pictures to judge by what is deblurred so" in said


def test_a_model_without_its_phases_is_told_of(
    floats: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = str(floats.file("didanet-tiny", "whole"))
    report = evaluate(capsys, "--model", f"didanet-nano,{alone}", "--map-of", TRUE)
    assert len(report.rows) == 4
    assert any(f"{alone}: no row under --map-of true" in note for note in report.notes)


def test_other_commands_take_no_views(floats: Floats) -> None:
    views = str(floats.file("dualpixel-map-tiny", "whole"))
    said = "takes left, right: expected a model of single pictures, which"
    with pytest.raises(UsageError, match=said), open_model(views, "cpu", 1):
        pass


def test_views_are_read_only_where_a_model_takes_them(
    floats: Floats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """These are damaged, and nobody looks."""
    folders = ("test_c/source", "test_c/target", "test_l/source", "test_r/source")
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
        picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / name / "a.png"), picture[: 48 if name[5] in "lr" else 96])
    alone = str(floats.file("didanet-tiny", "whole"))
    assert len(evaluate(capsys, "--model", alone, "--data", str(tmp_path)).rows) == 2


def test_a_model_of_views_needs_views(
    floats: Floats, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    views = str(floats.file("dualpixel-map-tiny", "whole"))
    data = ("--data", str(pairs(tmp_path, "blurry", "sharp", "defocus")))
    said = refused(capsys, "--model", views, *data)
    assert "takes the two views of a dual-pixel sensor, which these data do not have" in said
    said = refused(capsys, "--model", "didanet-nano", "--map-of", views, *data)
    assert f"--map-of {views}: it takes the two views" in said


def test_views_are_judged_and_deblurred_by(
    floats: Floats, capsys: pytest.CaptureFixture[str]
) -> None:
    views = floats.file("dualpixel-map-tiny", "whole")
    words = ("--model", f"didanet-nano,{views}", "--map-of", str(views))
    report = evaluate(capsys, *words)
    _, own, under, maps = report.rows
    assert under.name == f"didanet-nano, map of {views.name}"
    assert own.similarity != under.similarity
    assert maps.max_radius == 25
    assert maps.map is not None
    assert (maps.similarity, under.map) == (None, None)
    assert f"| {maps.map.mae * 25:.2f} |" in "".join(tables(report, by_radius=False))
    (again,) = evaluate(capsys, "--model", str(views), "--float").rows[1:]
    assert again.map is not None
    assert again.map.mae == pytest.approx(maps.map.mae, abs=1e-4)
