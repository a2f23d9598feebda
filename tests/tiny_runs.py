"""Words for a run of the training command in ten steps, pictures for it, and what it logged."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np

STEPS = ["--epochs", "4,2,4", "--scale", "0.002", "--batch", "2", "--crop", "32"]  # 4 + 2 + 4 steps


def command(photos: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--model", "didanet-tiny", "--workers", "0", "--val-crops", "2", "--device", "cpu"]
    return ["--data", str(photos), "--out", str(out), *fixed, *STEPS, *more]


def losses(out: Path) -> list[tuple[str, str]]:
    with (out / "log.csv").open(newline="") as file:
        return [(row["stage"], row["loss"]) for row in csv.DictReader(file)]


def pairs(folder: Path, count: int = 4, side: int = 48) -> Path:
    """Pairs of blurry and sharp pictures, without maps."""
    rng = np.random.default_rng(side)
    for name in ("blurry", "sharp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
            assert cv2.imwrite(str(folder / name / f"{i}.png"), pixels)
    return folder
