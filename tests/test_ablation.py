"""DID-ANet's table III: every row trains and is judged, and its options do what they say."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from recipe_runs import log, photos, train

from allfocus import cli
from allfocus.benchmarks import ablation
from allfocus.benchmarks.ablation import ROWS, Row, table
from allfocus.benchmarks.pairs import DataSet
from allfocus.train import checkpoint
from allfocus.train.evaluation_pair import Pair
from allfocus.train.models.didanet import DidANet


def small_set(*_: object) -> DataSet:
    """One picture, instead of twenty to render."""
    sharp = np.random.default_rng(0).integers(0, 256, (32, 48, 3)).astype(np.uint8)
    pair = Pair(
        "one", (sharp // 2 + 40).astype(np.uint8), sharp, np.zeros((32, 48), np.float32), None
    )
    return DataSet("small", (lambda: pair,))


def test_every_row_is_judged_with_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []

    def one(_: Namespace, name: str, seed: int, data: DataSet) -> tuple[float, float]:
        judged.append((name, seed, data.name))
        return 20.0 + seed, 0.1

    monkeypatch.setattr(ablation, "_one", one)
    row = ablation.measure(Namespace(seeds=(3, 5)), "backbone, no map", small_set())
    assert row == Row("backbone, no map", ROWS["backbone, no map"], (23.0, 25.0), (0.1, 0.1))
    assert judged == [("backbone, no map", seed, "small") for seed in (3, 5)]


def test_it_trains_and_judges_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript", reason="exporting needs torch and onnxscript")
    monkeypatch.setattr(ablation, "open_data", small_set)
    few = {name: ROWS[name] for name in ("backbone, no map", "stages 1, 2, 3, L_WD")}
    monkeypatch.setattr(ablation, "ROWS", few)
    out = tmp_path / "runs"
    words = ["bench", "ablation", "--data", "dead-leaves", "--out", str(out), "--seeds", "3"]
    assert cli.main([*words, "--steps", "3", "--batch", "1", "--crop", "32", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in body["rows"]] == list(few)
    assert all(len(row["psnr_db"]) == 1 for row in body["rows"])
    assert body == json.loads((out / "ablation.json").read_text())
    assert (out / "ablation.md").read_text().count("\n") == 5
    assert {p.name for p in out.iterdir() if p.is_dir()} == {"0-3", "1-3"}


def test_pairs_without_maps_are_refused_before_any_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ablation, "measure", lambda *_: pytest.fail("work began"))
    for kind in ("blurry", "sharp"):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / "a.png"), np.zeros((64, 64, 3), np.uint8))
    words = ["bench", "ablation", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "a.png has no map, and most rows learn from maps; make some" in capsys.readouterr().err


def test_the_table_tells_gain_and_spread() -> None:
    rows = [
        Row("one", (), (21.0, 23.0), (0.25, 0.35)),
        Row("two", ("--no-guidance",), (20.0,), (0.5,)),
    ]
    lines = table(rows, 20.0).splitlines()
    assert lines[3] == "| one | 22.00 | +2.00 | 1.41 | 0.300 |"
    assert lines[4] == "| two | 20.00 | +0.00 | 0.00 | – |"


@pytest.mark.parametrize("text", ["1,1", "a", ""])
def test_seeds_that_are_none_are_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "ablation", "--data", str(tmp_path), "--seeds", text]
    assert cli.main(words) == 2
    assert "expected whole numbers, each once" in capsys.readouterr().err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


def trained(data: Path, out: Path, *options: str) -> DidANet:
    assert train(data, out, "didanet-tiny", "--ema", "0.5", *options) == 0
    net, _ = checkpoint.load("didanet-tiny", out / "didanet-tiny.safetensors")
    assert isinstance(net, DidANet)
    return net


def test_the_backbone_has_an_empty_map(data: Path, tmp_path: Path) -> None:
    net = trained(data, tmp_path, "--no-guidance", "--loss", "l2", "--stages", "2")
    image = torch.rand(1, 3, 16, 16)
    assert not net.estimate(image).any()
    assert {row["map"] for row in log(tmp_path)} == {""}


def test_without_the_auxiliary_task_no_true_map_is_learnt_from(data: Path, tmp_path: Path) -> None:
    net = trained(data, tmp_path, "--no-auxiliary", "--loss", "l2", "--stages", "2")
    assert net.estimate(torch.rand(1, 3, 16, 16)).any()
    assert {row["map"] for row in log(tmp_path)} == {""}


@pytest.mark.parametrize(
    ("model", "words", "said"),
    [
        ("didanet-lite", ("--no-guidance", "--stages", "2"), "take didanet or didanet-tiny"),
        ("didanet-tiny", ("--no-guidance",), "leave it out: --stages 1,2"),
        ("didanet-tiny", ("--no-auxiliary",), "leave it out: --stages 1,2"),
        ("sftnet-tiny", ("--no-guidance",), "this recipe has no such option"),
    ],
)
def test_what_makes_no_sense_is_refused(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: str,
    words: tuple[str, ...],
    said: str,
) -> None:
    assert train(data, tmp_path, model, *words) == 2
    assert said in capsys.readouterr().err
