"""Runs of `allfocus eval` on two small pairs with maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import Exported

from allfocus import cli
from allfocus.benchmarks import candidates

SIZE = (24, 32)
BLIND = candidates.Candidate(
    name="blind", kind="model", run=lambda _, given: candidates.Output(image=given)
)


def pairs(root: Path) -> Path:
    """Two pairs with maps, half of each in focus."""
    rng = np.random.default_rng(0)
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


def without_baselines(tiny: Exported, folder: Path) -> tuple[object, ...]:
    options = ("--backend", "cpu", "--threads", 1, "--no-baselines")
    return ("--model", tiny.frame, "--data", folder, *options)
