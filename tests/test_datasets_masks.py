"""Maps and masks of data sets: what their values mean, and which ones are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_sets import check, cuhk, ded, dut, masked, put

from allfocus.cli import main
from allfocus.runtime.errors import InputError
from allfocus.train.data import find, make_samples
from allfocus.train.datasets import recognise
from allfocus.train.pairs import Pair, read_map
from allfocus.train.synthetic import Recipe


@pytest.mark.parametrize("make", [cuhk, dut])
def test_masks_become_radii(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    pair = find(tmp_path)[0]
    assert isinstance(pair, Pair)
    assert pair.white == "sharp"
    assert pair.defocus is not None
    radius = read_map(pair.defocus, 8.0, pair.white)
    assert radius[0, 0] == 0
    assert radius[0, -1] == 8
    samples = make_samples(find(tmp_path), 16, 0, Recipe())
    assert not samples.has_sharp


def test_greys_of_a_mask_are_cut_in_the_middle(tmp_path: Path) -> None:
    """Its soft edges are not blur of some pixels; evaluation cuts them there too."""
    cuhk(tmp_path)
    for path in (tmp_path / "gt").iterdir():
        mask = np.full((24, 32), 100, np.uint8)
        mask[:, :16] = 160
        cv2.imwrite(str(path), mask)
    sample = make_samples(find(tmp_path), 16, 0, Recipe())[0]
    assert set(np.unique(sample.radius)) <= {0.0, np.float32(Recipe().max_radius)}


def test_masks_that_are_white_where_blurred_are_seen_to_be(tmp_path: Path) -> None:
    cuhk(tmp_path)
    for path in (tmp_path / "gt").iterdir():
        cv2.imwrite(str(path), 255 - cv2.imread(str(path)))
    found = recognise(tmp_path)
    assert found is not None
    assert found.every[0].white == "blurred"


def test_a_16_bit_map_is_in_256ths_of_a_pixel(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 4), 640, np.uint16))
    assert read_map(tmp_path / "a.png", 8.0, "blurred")[0, 0] == 2.5


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((24, 32), 60000, np.uint16), "times 256"),
        (np.ones((24, 32), np.uint8), "largest value is 1 of 255"),
        (np.full((24, 32), 200, np.uint16), "largest radius is 0.78 pixels, read from 16 bits"),
        (np.full((24, 32, 3), (0, 90, 200), np.uint8), "a map in colours"),
    ],
)
def test_maps_in_another_range_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], pixels: np.ndarray, said: str
) -> None:
    ded(tmp_path)
    for path in (tmp_path / "filtered").iterdir():
        cv2.imwrite(str(path), pixels)
    assert said in check(tmp_path, capsys)


def test_maps_of_floats_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.tiff"), np.zeros((24, 32), np.float32))
    with pytest.raises(InputError, match=r"a\.tiff"):
        read_map(tmp_path / "a.tiff", 8.0, "blurred")


def test_masks_of_16_bits_are_told_where_white_means_sharp(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuhk(tmp_path)
    for path in (tmp_path / "gt").iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(path), mask.astype(np.uint16) * 50)
    assert "a mask of 16 bits, in which white means sharp; expected 8 bits" in check(
        tmp_path, capsys
    )


def test_a_set_of_which_all_is_in_focus_is_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cuhk(tmp_path)
    path = tmp_path / "gt" / "out_of_focus0001.png"
    cv2.imwrite(str(path), np.full((24, 32), 255, np.uint8))
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "nothing wrong" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_masks_are_not_taken_for_sharp_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    masked(tmp_path / "image", tmp_path / "gt", ["1.jpg", "2.jpg"], suffix)
    said = r"gt: black-and-white masks.*`images/` and `masks/`.*`sharp/`"
    with pytest.raises(InputError, match=said):
        find(tmp_path)
    assert "black-and-white masks" in check(tmp_path, capsys)
    (tmp_path / "image").rename(tmp_path / "images")
    (tmp_path / "gt").rename(tmp_path / "masks")
    assert not make_samples(find(tmp_path), 16, 0, Recipe()).has_sharp


def test_sharp_pictures_in_gt_are_pictures(tmp_path: Path) -> None:
    put(tmp_path / "image", "1.png", "2.png")
    put(tmp_path / "gt", "1.png", "2.png")
    grey = np.tile(np.arange(32, dtype=np.uint8) * 8, (24, 1))
    cv2.imwrite(str(tmp_path / "gt" / "1.png"), grey)
    assert make_samples(find(tmp_path), 16, 0, Recipe()).has_sharp
    for path in (tmp_path / "gt").iterdir():
        cv2.imwrite(str(path), np.where(grey > 9, np.uint8(255), np.uint8(0)))
    (tmp_path / "gt").rename(tmp_path / "sharp")  # so whoever means it says so
    assert make_samples(find(tmp_path), 16, 0, Recipe()).has_sharp
