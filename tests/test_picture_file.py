"""Pictures that are made here: what is written is read back, and a full disk is told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from full_disk import full_after
from numpy.typing import NDArray

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.train.picture_file import write_picture

RNG = np.random.default_rng(0)
KINDS = [
    RNG.integers(0, 256, (40, 30, 3), np.uint8),
    RNG.integers(0, 256, (40, 30), np.uint8),
    RNG.integers(0, 65536, (40, 30), np.uint16),
    RNG.integers(0, 256, (40, 30, 3), np.uint8)[..., ::-1],  # not in one piece
]


@pytest.mark.parametrize("pixels", KINDS)
def test_a_png_holds_the_pixels(tmp_path: Path, pixels: NDArray[np.generic]) -> None:
    write_picture(tmp_path / "new" / "a.png", pixels)
    kept = cv2.imread(str(tmp_path / "new" / "a.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(kept, pixels)


def test_a_jpeg_has_the_quality_that_is_asked_for(tmp_path: Path) -> None:
    for quality in (20, 90):
        write_picture(tmp_path / f"{quality}.jpg", KINDS[0], quality=quality)
    assert 2 * (tmp_path / "20.jpg").stat().st_size < (tmp_path / "90.jpg").stat().st_size


def test_a_full_disk_is_told_and_leaves_the_former_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("former")
    with full_after(2048), pytest.raises(AllfocusError, match=r"cannot write .*a\.png: File too"):
        write_picture(tmp_path / "a.png", KINDS[0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_text() == "former"


def test_a_name_of_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no picture format has this suffix"):
        write_picture(tmp_path / "a.gif", KINDS[0])
