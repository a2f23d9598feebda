"""Runs of the training command on two small pictures, a few steps each."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import torch

from allfocus.train.train import main


def photos(folder: Path, count: int = 2) -> Path:
    """Pictures of squares in `folder`."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = rng.integers(0, 256, (20, 20, 3), np.uint8)
        photo = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_NEAREST)
        assert cv2.imwrite(str(folder / f"{i}.png"), photo)
    return folder


def train(data: Path, out: Path, model: str, *more: str, steps: int = 3) -> int:
    """The exit code of a run."""
    fixed = ["--workers", "0", "--val-crops", "2", "--device", "cpu", "--batch", "2"]
    length = ["--crop", "32", "--steps", str(steps)]
    given = ["--model", model, "--data", str(data), "--out", str(out)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # in nets so small threads only wait for one another
    try:
        return main([*given, *fixed, *length, *more])
    finally:
        torch.set_num_threads(threads)


def log(out: Path) -> list[dict[str, str]]:
    """The rows of a run's log."""
    with (out / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))
