"""Trainings in which nothing can be learnt end soon, and say so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.train.loop import IDLE_STEPS
from allfocus.train.train import main

SHORT = ["--recipe", "plain", "--batch", "1", "--crop", "32", "--workers", "0", "--val-crops", "1"]
SHORT += ["--device", "cpu", "--pictures", "0", "--net", "features=8,blocks=1"]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Without maps."""
    rng = np.random.default_rng(0)
    for name in ("blurry", "sharp"):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
            assert cv2.imwrite(str(tmp_path / name / f"{i}.png"), pixels)
    return tmp_path


def run(model: str, data: Path, steps: int) -> int:
    words = ["--model", model, "--data", str(data), "--out", str(data / "run"), *SHORT]
    return main([*words, "--steps", str(steps)])


def test_a_gate_that_no_map_opens_is_told(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new estimator's map lies below what didanet-lite leaves alone: no gradient at all."""
    assert run("didanet-lite", pairs, 2 * IDLE_STEPS) == 2
    said = capsys.readouterr().err
    assert "nothing is learnt" in said
    assert "make-maps" in said
    assert not (pairs / "run" / "didanet-lite.safetensors").exists()


def test_a_net_without_a_gate_learns_from_the_same_data(pairs: Path) -> None:
    assert run("didanet-tiny", pairs, IDLE_STEPS + 1) == 0
