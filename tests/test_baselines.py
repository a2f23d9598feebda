"""Classical baselines used as models are: opened by name, timed, refused where they do not fit."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", reason="classical baselines need SciPy")

from conftest import Exported

import allfocus
from allfocus import cli
from allfocus.benchmarks import baselines, deconvolution, latency
from allfocus.benchmarks.baselines import open_baseline
from allfocus.benchmarks.schema import LatencyReport, decode
from allfocus.runtime import catalogue
from allfocus.runtime.errors import AllfocusError, ArtefactError, InputError, UsageError

FRAME = np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)
MAP = np.full(FRAME.shape[:2], 2, np.float32)


def test_the_catalogue_names_what_there_is() -> None:
    assert set(catalogue.BASELINES) == set(deconvolution.METHODS)
    assert not set(catalogue.BASELINES) & set(catalogue.MODELS)
    assert all(entry.name == name for name, entry in catalogue.BASELINES.items())


@pytest.mark.parametrize("name", catalogue.BASELINES)
def test_a_baseline_is_used_as_a_model_is(name: str, tiny: Exported) -> None:
    with allfocus.load(tiny.frame, backend="cpu") as deblur:
        estimated = np.clip(deblur(FRAME).defocus, 0, None)
    with open_baseline(name, model=tiny.frame, backend="cpu") as baseline:
        result = baseline(FRAME)
    np.testing.assert_allclose(result.defocus, estimated, atol=1e-5)
    assert (result.image.shape, result.image.dtype) == (FRAME.shape, np.uint8)
    image = FRAME.astype(np.float32) / np.float32(255)
    expected = 255 * deconvolution.deconvolve(image, estimated, name)
    np.testing.assert_allclose(result.image, expected, atol=0.51)
    assert set(result.timings) == {"pre", "infer", "post"}
    assert all(took >= 0 for took in result.timings.values())
    with pytest.raises(ArtefactError, match="closed"):
        baseline(FRAME)


@pytest.mark.parametrize("name", catalogue.BASELINES)
def test_a_map_can_be_given_and_needs_no_model(name: str) -> None:
    baseline = open_baseline(name, model=None)
    result = baseline(FRAME, MAP)
    assert result.defocus is MAP
    assert (result.image != FRAME).mean() > 0.5
    np.testing.assert_array_equal(baseline(FRAME, 0 * MAP).image, FRAME)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_frames_of_every_kind_keep_theirs(dtype: type[Any], channels: int) -> None:
    shape = FRAME.shape[:2] + ((channels,) if channels else ())
    white = 1 if dtype == np.float32 else np.iinfo(dtype).max
    frame = (white * np.random.default_rng(1).random(shape)).astype(dtype)
    baseline = open_baseline("wiener", model=None)
    made = baseline(frame, MAP).image
    assert (made.shape, made.dtype) == (frame.shape, frame.dtype)
    if channels == 4:
        np.testing.assert_array_equal(made[..., 3], frame[..., 3])
    same = baseline(frame, 0 * MAP).image
    np.testing.assert_allclose(same, frame, atol=1e-6 * white if channels < 3 else 0)


def test_without_a_model_a_map_must_be_given() -> None:
    with pytest.raises(UsageError, match=r'open_baseline\("wiener", model="didanet"\)'):
        open_baseline("wiener", model=None)(FRAME)


def test_a_map_that_does_not_fit_is_refused() -> None:
    baseline = open_baseline("wiener", model=None)
    with pytest.raises(InputError, match=r"\[37, 50\], got \[50, 37\]"):
        baseline(FRAME, MAP.T)
    with pytest.raises(InputError, match="channels first"):
        baseline(FRAME.transpose(2, 0, 1), MAP)


def test_a_model_without_a_map_cannot_guide(
    tiny: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    with allfocus.load(tiny.frame, backend="cpu") as deblur:
        deblur.spec = dataclasses.replace(deblur.spec, max_radius=0.0)
        monkeypatch.setattr(baselines, "load", lambda *_, **__: deblur)
        with pytest.raises(UsageError, match="didanet-tiny estimates none"):
            open_baseline("wiener", model="didanet-tiny")
        with pytest.raises(ArtefactError, match="closed"):  # nothing stays open
            deblur(FRAME)


def test_an_unknown_baseline_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'richardson-lucy'"):
        open_baseline("richardson", model=None)


def test_without_scipy_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(AllfocusError, match=r'pip install "allfocus\[bench\]"'):
        open_baseline("wiener", model=None)


@pytest.mark.parametrize(
    "words",
    [
        ["export", "--model", "wiener"],
        ["deblur", "photo.png", "--model", "wiener", "-o", "out.png"],
        ["bench", "flops", "--model", "wiener"],
        ["bench", "latency", "--model", "wiener"],
        ["doctor", "--model", "wiener"],
        ["train", "--model", "wiener", "--data", "photos"],
    ],
)
def test_where_a_net_is_needed_a_baseline_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert "'wiener' is a classical baseline, not a net" in said
    assert "bench latency --classical wiener" in said
    with pytest.raises(UsageError, match="classical baseline"):
        allfocus.load("wiener")


def test_latency_times_baselines_beside_a_model(
    tiny: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "latency.json"
    command = ["--artefact", str(tiny.frame), "--size", "62x48", "--baseline", "none"]
    command += ["--classical", "wiener,richardson-lucy,wiener", "--repeats", "3", "--threads", "1"]
    chart = ["--chart", str(tmp_path / "latency.png")]
    assert latency.main([*command, "--backend", "cpu", "--out", str(out), *chart]) == 0
    report = decode(LatencyReport, out.read_text(encoding="utf-8"))
    assert [row.role for row in report.rows] == ["runtime", "classical", "classical"]
    assert [row.name for row in report.rows[1:]] == ["wiener, CPU", "richardson-lucy, CPU"]
    model = report.rows[0]
    assert (model.speedup, model.max_difference) == (None, None)  # not compared with a baseline
    for row in report.rows[1:]:
        assert len(row.samples_ms) == 3
        assert row.pre_ms.median > model.infer_ms.median / 4  # it holds the model's whole call
        assert row.memory.rss_bytes > 30e6
        assert row.speedup is None
    assert "pre of a classical baseline" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "says"),
    [("weiner", "did you mean 'wiener'"), ("", "known: richardson-lucy, wiener")],
)
def test_latency_refuses_unknown_baselines_first(
    names: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert latency.main(["--classical", names]) == 2
    assert says in capsys.readouterr().err
