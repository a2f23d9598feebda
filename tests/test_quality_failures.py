"""What `allfocus eval` says of wrong use, and of what fails under way."""

from __future__ import annotations

import argparse
import re
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Exported
from eval_runs import evaluate, pairs, without_baselines
from full_disk import full_after

from allfocus.benchmarks import candidates, quality
from allfocus.benchmarks.pairs import open_data
from allfocus.benchmarks.quality_sheet import Sheet
from allfocus.runtime.errors import AllfocusError
from allfocus.train.evaluation_pair import Pair


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pairs(tmp_path / "pairs")


def parsed(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    quality.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


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
