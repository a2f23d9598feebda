"""Sharp photos as textures: how they are enlarged, and how many fit into memory."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.runtime.errors import UsageError
from allfocus.train import photo_samples
from allfocus.train.photo_samples import PhotoSamples
from allfocus.train.synthetic import Recipe


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Stripes of eight pixels, 64x64."""
    stripes = np.tile(np.repeat(np.array([40, 220], np.uint8), 8), 4)
    path = tmp_path / "stripes.png"
    assert cv2.imwrite(str(path), np.broadcast_to(stripes[None, :, None], (64, 64, 3)).copy())
    return path


def test_a_photo_smaller_than_its_crop_gets_no_stairs(photo: Path) -> None:
    """Nearest neighbours would show the two greys alone, as an edge sharper than the photo's."""
    samples = PhotoSamples([photo], 112, 0, Recipe(soft_share=0, leaves_share=0, graphics_share=0))
    code = samples._crop(np.random.default_rng(0), 112)
    assert code.shape == (112, 112, 3)
    between = (code > 60) & (code < 200)
    assert 0.02 < between.mean() < 0.3


def test_photos_that_fill_the_memory_are_refused(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_samples, "installed", lambda: 50_000.0)
    PhotoSamples([photo, photo], 16, 0, Recipe())  # 24,576 bytes of 25,000
    with pytest.raises(UsageError, match=r"3 of 5 photos take .* reduce them"):
        PhotoSamples([photo] * 5, 16, 0, Recipe())
