"""Folders of small pictures to work through."""

from __future__ import annotations

from pathlib import Path

import cv2

import allfocus

PHOTO = Path(allfocus.__file__).parent / "data" / "chelsea.png"


def photos(folder: Path, count: int, side: int = 48) -> Path:
    """Parts of the package's photo, each of its own."""
    folder.mkdir()
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    for index in range(count):
        part = photo[10 * index : 10 * index + side, 100 : 100 + side]
        cv2.imwrite(str(folder / f"{index}.png"), part)
    return folder
