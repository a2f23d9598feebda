"""The quality a JPEG was written with: recovered, and kept when it is written again."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from allfocus.runtime.pictures import jpeg
from allfocus.runtime.pictures.image import read_image, write_image
from allfocus.runtime.pictures.jpeg_quality import quality_of


def picture(channels: int = 3) -> NDArray[np.uint8]:
    shape = (24, 32, channels) if channels > 1 else (24, 32)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def written(quality: int, channels: int = 3) -> bytes:
    return cv2.imencode(".jpg", picture(channels), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.mark.parametrize("channels", [1, 3])
@given(quality=st.integers(3, 100))
def test_libjpegs_qualities_are_recovered(channels: int, quality: int) -> None:
    """Below 3 all entries are clipped to 255 and the tables are alike."""
    assert jpeg.inspect(written(quality, channels)).quality == quality


@given(body=st.binary(max_size=200))
def test_any_segment_gives_some_quality(body: bytes) -> None:
    assert 1 <= quality_of([body]) <= 100


def test_tables_of_16_bits_are_read() -> None:
    wide = bytes([0x10]) + b"".join(bytes([0, 1]) for _ in range(64))
    assert quality_of([wide]) == 100


@pytest.mark.parametrize(("source", "kept"), [(60, 95), (95, 95), (98, 98), (100, 100)])
def test_a_jpeg_is_written_at_its_own_quality_and_at_least_95(
    tmp_path: Path, source: int, kept: int
) -> None:
    (tmp_path / "in.jpg").write_bytes(written(source))
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.jpg"))
    assert jpeg.inspect((tmp_path / "out.jpg").read_bytes()).quality == kept
    write_image(tmp_path / "asked.jpg", read_image(tmp_path / "in.jpg"), quality=70)
    assert jpeg.inspect((tmp_path / "asked.jpg").read_bytes()).quality == 70


def test_other_sources_are_written_at_95(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "in.png")
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.png"))
    assert jpeg.inspect((tmp_path / "out.jpg").read_bytes()).quality == 95
