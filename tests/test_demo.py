"""The demo: what it measures, what it draws, and one whole run with the test net."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.benchmarks import demo
from allfocus.benchmarks.common import PHOTO
from allfocus.benchmarks.panels import ZOOM, colors, compose, most_changed, scale_top
from allfocus.benchmarks.sharpness import Frame, by_blur
from allfocus.runtime.errors import InputError

TINY = ["--model", "didanet-tiny", "--weights", "random:0"]


def _photo() -> Frame:
    image = cv2.imread(str(PHOTO))
    assert image is not None
    return np.asarray(image, np.uint8)


def _ramp(shape: tuple[int, ...], top: float) -> np.ndarray:
    return np.tile(np.linspace(0, top, shape[1], dtype=np.float32), (shape[0], 1))


def test_an_unchanged_picture_is_as_sharp_as_it_was() -> None:
    photo = _photo()
    bands = by_blur(photo, photo, _ramp(photo.shape, 4))
    assert [(band.low, band.high) for band in bands] == [(0, 0.5), (0.5, 2), (2, math.inf)]
    assert all(band.gain == 1 and band.psnr_db == math.inf for band in bands)
    assert sum(band.share for band in bands) == pytest.approx(1)


def test_sharpness_is_measured_where_the_map_says() -> None:
    photo = _photo()
    half = photo.shape[1] // 2
    blurred = photo.copy()
    blurred[:, half:] = cv2.GaussianBlur(photo, (0, 0), 2)[:, half:]
    defocus = np.zeros(photo.shape[:2], np.float32)
    defocus[:, half:] = 3
    focused, defocused = by_blur(blurred, photo, defocus)
    assert focused.gain == pytest.approx(1, abs=0.02)
    assert defocused.gain > 2
    assert defocused.psnr_db < 40 < focused.psnr_db


@given(st.floats(-1, 20), st.integers(1, 255))
def test_every_pixel_belongs_to_one_band(radius: float, difference: int) -> None:
    before = np.zeros((4, 6, 3), np.uint8)
    after = np.full_like(before, difference)
    (band,) = by_blur(before, after, np.full((4, 6), radius, np.float32))
    assert band.share == 1
    assert band.psnr_db == pytest.approx(20 * math.log10(255 / difference), abs=1e-9)
    assert math.isnan(band.gain)  # nothing to be sharper than


def test_the_enlarged_detail_is_where_most_was_changed() -> None:
    before = np.zeros((90, 120, 3), np.uint8)
    after = before.copy()
    after[60:70, 20:30] = 200
    rows, columns = most_changed(before, after)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (90 // ZOOM, 120 // ZOOM)
    assert rows.start <= 60 < 70 <= rows.stop
    assert columns.start <= 20 < 30 <= columns.stop


def test_the_colours_span_the_scale() -> None:
    defocus = _ramp((10, 400, 3), 4.7)
    top = scale_top(defocus)
    assert top == 5
    shown = colors(np.array([[-1.0, 0.0, 5.0, 9.0]], np.float32), top)
    assert (shown[0, 0] == shown[0, 1]).all()
    assert (shown[0, 2] == shown[0, 3]).all()
    assert int(shown[0, 2].astype(int).sum() - shown[0, 0].astype(int).sum()) > 100
    assert scale_top(np.zeros((4, 4), np.float32)) == 1  # a map without blur still has a scale


def test_the_panels_show_both_pictures_untouched() -> None:
    before = _photo()
    after = 255 - before
    made = compose(before, after, _ramp(before.shape, 3))
    height, width = before.shape[:2]
    for place, image in enumerate((before, after)):
        left = 12 + place * (width + 12)
        panel = made[46 : 46 + height, left : left + width]
        same = (panel == image).all(axis=2)
        assert same.mean() > 0.99  # all but the outline of the detail
    assert made.shape[1] == 3 * width + 4 * 12


@pytest.mark.parametrize("shape", [(16, 16), (20, 61), (61, 20)])
def test_small_pictures_have_panels_too(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    assert compose(image, image, np.zeros(shape, np.float32)).shape[1] == 3 * shape[1] + 48


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((20, 30), 77, np.uint8),
        np.full((20, 30, 4), 77, np.uint8),
        np.full((20, 30, 3), 77 << 8, np.uint16),
    ],
    ids=["grey", "alpha", "16 bit"],
)
def test_any_photo_becomes_a_frame(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    assert cv2.imwrite(str(path), pixels)
    frame = demo.read_photo(path)
    assert frame.shape == (20, 30, 3)
    assert frame.dtype == np.uint8
    assert (frame == 77).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((1000, 2000), (300, 600)), ((2000, 1000), (400, 200)), ((400, 601), (399, 600))],
)
def test_a_large_photo_is_made_to_fit_the_engine(
    shape: tuple[int, int], expected: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    assert cv2.imwrite(str(path), np.zeros((*shape, 3), np.uint8))
    assert demo.read_photo(path).shape[:2] == expected


def test_what_is_no_photo_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_text("not a picture", encoding="utf-8")
    with pytest.raises(InputError, match=r"text\.png"):
        demo.read_photo(path)


def test_a_model_without_weights_says_what_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main(["--model", "didanet-tiny", "--out", str(tmp_path / "out")]) == 1
    assert "--weights" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def _run(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the demo twice with one cache, into `folder`; what the second one prints."""
    for _ in range(2):
        capsys.readouterr()
        assert demo.main([*TINY, "--out", str(folder)]) == 0
    (picture,) = folder.iterdir()
    image = cv2.imread(str(picture))
    assert image is not None
    assert image.shape[1] == 3 * 451 + 4 * 12
    return capsys.readouterr().out


@pytest.mark.rtx
def test_a_whole_run_makes_an_engine_and_a_picture(
    tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    text = _run(tmp_path / "demo-out", capsys)
    assert list(own_cache.glob("*/didanet-tiny-fp16-600x400.engine"))
    for words in ("sm86, sm89, sm120", "from cache", "psnr_db", "estimated blur radius", "done in"):
        assert words in text


def test_without_tensorrt_the_demo_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("allfocus.export.flavour.installed_version", lambda _: None)
    text = _run(tmp_path / "demo-out", capsys)
    assert "engine   not built" in text
    assert 'pip install "allfocus[trt-rtx]"' in text
    assert "TensorRT engine" not in text
