"""Folders of pairs: what is recognised, and what each refusal says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.benchmarks.pairs import open_data
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.spec import Size
from allfocus.train.datasets import recognise
from allfocus.train.pairs import read_rgb

RNG = np.random.default_rng(0)


def fill(folder: Path, *names: str, count: int = 2, size: tuple[int, int] = (20, 30)) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        for index in range(count):
            shape = size if name in ("defocus", "filtered") else (*size, 3)
            picture = RNG.integers(0, 256, shape, np.uint8)
            cv2.imwrite(str(folder / name / f"{index}.png"), picture)
    return folder


@pytest.mark.parametrize(
    "names",
    [("image", "sharp"), ("blurry", "sharp", "defocus"), ("image", "sharp", "filtered")],
)
def test_pairs_are_those_that_training_finds(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = fill(tmp_path, *names)
    found = list(open_data(str(folder), 8.0))
    data_set = recognise(folder)
    assert data_set is not None
    known = data_set.pairs()
    assert [pair.name for pair in found] == [pair.blurry.stem for pair in known] == ["0", "1"]
    for pair, files in zip(found, known, strict=True):
        np.testing.assert_array_equal(pair.blurry, read_rgb(files.blurry))
        assert files.sharp is not None
        np.testing.assert_array_equal(pair.sharp, read_rgb(files.sharp))
        assert (pair.radius is None) == (files.defocus is None)
        if files.defocus is not None:
            assert pair.radius is not None
            share = read_rgb(files.defocus)[..., 0] / 255
            np.testing.assert_allclose(pair.radius, 8 * share, rtol=1e-6)


def test_white_in_a_map_is_the_radius_that_is_given(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp", "defocus", count=1)
    cv2.imwrite(str(folder / "defocus" / "0.png"), np.full((20, 30), 255, np.uint8))
    (pair,) = open_data(str(folder), 12.0)
    assert pair.radius is not None
    assert (pair.radius == 12).all()
    assert pair.in_focus is not None
    assert not pair.in_focus.any()


def test_a_limit_and_a_size_cut_and_say_so(tmp_path: Path) -> None:
    data = open_data(str(fill(tmp_path, "blurry", "sharp", "defocus", count=3)), 8.0)
    cut = data.limited(2, Size(10, 50))
    assert len(cut) == 2
    first, whole = next(iter(cut)), next(iter(data))
    assert first.radius is not None
    assert first.radius.shape == (20, 10)
    np.testing.assert_array_equal(first.blurry, whole.blurry[:, 10:20])
    assert cut.notes == (
        "only the first 2 of 3 pictures",
        "only the middle of each picture, 10x50 pixels",
    )
    assert data.limited(3, None).notes == ()


def test_what_is_no_folder_of_pairs_is_told_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder; expected pairs in the layout of DPDD"):
        open_data(str(tmp_path / "none"), 8.0)
    with pytest.raises(UsageError, match=r"no pairs in it \(found nothing\)"):
        open_data(str(tmp_path), 8.0)
    fill(tmp_path, "blurry", "target")
    with pytest.raises(UsageError, match=r"no pairs in it \(found blurry/, target/\); expected"):
        open_data(str(tmp_path), 8.0)


def test_a_picture_without_its_partner_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp", "defocus")
    (folder / "defocus" / "1.png").unlink()
    with pytest.raises(UsageError, match="2 blurry, 2 sharp pictures, 1 maps"):
        open_data(str(folder), 8.0)
    (folder / "sharp" / "1.png").unlink()
    with pytest.raises(UsageError, match="2 blurry, 1 sharp"):
        open_data(str(folder), 8.0)


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp")
    (folder / "sharp" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png: not a picture"):
        list(open_data(str(folder), 8.0))
    cv2.imwrite(str(folder / "sharp" / "0.png"), np.zeros((20, 31, 3), np.uint8))
    with pytest.raises(InputError, match=r"0\.png: sizes differ"):
        list(open_data(str(folder), 8.0))
