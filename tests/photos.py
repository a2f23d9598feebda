"""Folders of small pictures to work through, and how."""

from __future__ import annotations

from pathlib import Path

import cv2

import allfocus
from allfocus.runtime.batch import Settings

PHOTO = Path(allfocus.__file__).parent / "data" / "chelsea.png"
SETTINGS = Settings(
    model="didanet-lite",
    backend="cpu",
    memory="256MiB",
    skip="auto",
    check=False,
    fallback=None,
    ensemble=1,
    reach=None,
    quality=None,
    max_pixels=10**7,
    threads=1,
    precision="fp32",
)
OPTIONS = ["--model", "didanet-lite", "--backend", "cpu", "--precision", "fp32", "--threads", "1"]


def photos(folder: Path, count: int, side: int = 48) -> Path:
    """Parts of the package's photo, each of its own."""
    folder.mkdir()
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    for index in range(count):
        part = photo[10 * index : 10 * index + side, 100 : 100 + side]
        cv2.imwrite(str(folder / f"{index}.png"), part)
    return folder
