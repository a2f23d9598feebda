"""Public data sets, made small, in the folders they are published in."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.cli import main


def put(folder: Path, *names: str, seed: int = 0, height: int = 24, channels: int = 3) -> None:
    """Small pictures of these names, others in each folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number, *folder.name.encode()])
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (height, 32, channels), np.uint8))


def dpdd(folder: Path) -> None:
    for split in ("train", "val", "test"):
        put(folder / f"{split}_c" / "source", "1P0A01.png", "1P0A03.png", seed=1)
        put(folder / f"{split}_c" / "target", "1P0A00.png", "1P0A02.png", seed=2)
        for side in "lr":
            put(folder / f"{split}_{side}" / "source", "1P0A01.png", "1P0A03.png", seed=ord(side))


def lfdof(folder: Path) -> None:
    for split in ("train", "test"):
        for scene in ("IMG_1", "IMG_2"):
            blurry = [f"{scene}_ap1_0{i}.png" for i in range(3)]
            put(folder / f"{split}_data" / "input" / scene, *blurry)
        put(folder / f"{split}_data" / "ground_truth", "IMG_1.png", "IMG_2.png")


def sdd(folder: Path) -> None:
    for split in ("train_patches", "test"):
        for name in ("blur", "gt"):
            put(folder / split / name, "1.png", "2.png")


def realdof(folder: Path) -> None:
    for name in ("source", "target"):
        put(folder / name, *(f"{i:02}.png" for i in range(50)))


def ded(folder: Path) -> None:
    put(folder / "image", *(f"image_{i}.jpg" for i in range(3)))
    put(folder / "sharp", *(f"sharp_{i}.jpg" for i in range(3)))
    put(folder / "filtered", *(f"defocus_filterd_{i}.png" for i in range(3)), channels=1)


def realistic(folder: Path) -> None:
    for name, channels in (("blurry", 3), ("sharp", 3), ("defocus", 1)):
        put(folder / name, *(f"{i:02}.png" for i in range(22)), channels=channels)


def masked(images: Path, masks: Path, names: list[str], suffix: str = ".png") -> None:
    """Pictures with detail on the left; masks that are white there."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        picture = np.full((24, 32, 3), 90, np.uint8)
        picture[:, :16] = np.random.default_rng(1).integers(0, 256, (24, 16, 3))
        mask = np.zeros((24, 32), np.uint8)
        mask[:, :16] = 255
        cv2.imwrite(str(images / name), picture)
        cv2.imwrite(str(masks / Path(name).with_suffix(suffix)), mask)


def cuhk(folder: Path) -> None:
    names = ["out_of_focus0001.jpg", "out_of_focus0002.jpg", "motion0001.jpg"]
    masked(folder / "image", folder / "gt", names)


def dut(folder: Path) -> None:
    names = ["1.jpg", "2.jpg"]
    masked(folder / "DUT600S_Training", folder / "DUT600GT_Training", names, ".bmp")
    masked(folder / "DUT500S-Testing", folder / "DUT500GT-Testing", names[:1], ".bmp")


def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says of a folder with something wrong."""
    assert main(["data", "check", str(folder)]) == 1
    said = capsys.readouterr()
    return said.out + said.err
