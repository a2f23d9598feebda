"""What is wrong with a data set: what is named, what is left out, and what is refused."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_sets import check, ded, dpdd, dut, lfdof, masked, put, sdd

from allfocus.cli import main
from allfocus.runtime.errors import InputError
from allfocus.train.data import find, make_samples
from allfocus.train.datasets import recognise
from allfocus.train.skips import Skips
from allfocus.train.synthetic import Recipe


def test_a_view_without_its_picture_is_named(tmp_path: Path) -> None:
    dpdd(tmp_path)
    (tmp_path / "val_l/source/1P0A01.png").rename(tmp_path / "val_l/source/1P0A09.png")
    with pytest.raises(InputError, match=r"val_c/source/1P0A01\.png, val_l/source/1P0A09\.png"):
        recognise(tmp_path)


def test_a_missing_partner_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ded(tmp_path)
    (tmp_path / "image" / "image_1.jpg").unlink()
    assert "sharp_1.jpg" in check(tmp_path, capsys)
    put(tmp_path / "image", "image_1.jpg")
    lfdof(tmp_path / "other")
    (tmp_path / "other" / "train_data" / "ground_truth" / "IMG_2.png").unlink()
    assert "IMG_2" in check(tmp_path / "other", capsys)


def test_a_partner_of_another_name_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sdd(tmp_path)
    put(tmp_path / "test" / "blur", "3.png", "4.png")
    put(tmp_path / "test" / "gt", "3.png", "5.png")
    said = check(tmp_path, capsys)
    assert "4.png" in said
    assert "5.png" in said


def test_pairs_of_different_size_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ded(tmp_path)
    put(tmp_path / "sharp", "sharp_0.jpg", height=40)
    said = check(tmp_path, capsys)
    assert "sharp_0.jpg 32x40" in said
    assert "1 problems" in said


def test_sizes_are_compared_where_all_files_have_one_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, (height, width) in (
        ("blurry", (200, 300)),
        ("sharp", (180, 280)),
        ("defocus", (100, 100)),
    ):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "0.png"), np.full((height, width), 200, np.uint8))
    said = check(tmp_path, capsys)
    for listed in ("blurry/0.png 300x200", "sharp/0.png 280x180", "defocus/0.png 100x100"):
        assert listed in said


def test_corrupt_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ded(tmp_path)
    whole = (tmp_path / "sharp" / "sharp_2.jpg").read_bytes()
    (tmp_path / "sharp" / "sharp_2.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "image" / "image_0.jpg").write_text("nothing")
    said = check(tmp_path, capsys)
    assert "sharp_2.jpg" in said
    assert "image_0.jpg" in said


def test_no_known_layout_says_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pictures").mkdir()
    said = check(tmp_path, capsys)
    assert "pictures" in said
    assert "_data/input/NAME" in said
    assert main(["data", "check", str(tmp_path / "none")]) == 2
    sdd(tmp_path / "inner")
    assert "inner is one" in check(tmp_path, capsys)


def test_a_folder_of_data_sets_names_them_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody shall train on the one that comes first, which may be for judging."""
    for data_set in ("judged", "learnt"):
        for kind in ("blurry", "sharp"):
            put(tmp_path / data_set / kind, "a.png")
    assert "its folders judged, learnt are each one: give them" in check(tmp_path, capsys)


def test_a_folder_in_which_every_pair_is_corrupt_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "sharp", "0.png", "1.png")
    put(tmp_path / "blurry", "0.png", "1.png")
    for file in (tmp_path / "blurry").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    said = check(tmp_path, capsys)
    assert "2 pairs; none could be read" in said
    assert "2 problems" in said


def corrupt(folder: Path, total: int, broken: int) -> None:
    for name in ("blurry", "sharp"):
        put(folder / name, *(f"{i:03}.png" for i in range(total)))
    for i in range(broken):
        (folder / "blurry" / f"{i:03}.png").write_bytes(b"broken")


def test_a_corrupt_picture_is_left_out_named_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt(tmp_path, 120, 1)
    samples = make_samples(find(tmp_path), 16, 0, Recipe())
    for index in range(400):
        assert samples[index].blurry.shape == (16, 16, 3)
    assert samples.skips.count == 1
    assert [record.getMessage().count("000.png") for record in caplog.records] == [1]
    assert "1 of 120" in caplog.text


def test_more_than_one_in_a_hundred_is_refused(tmp_path: Path) -> None:
    corrupt(tmp_path, 120, 2)
    samples = make_samples(find(tmp_path), 16, 0, Recipe())
    with pytest.raises(InputError, match="2 of 120"):
        [samples[index] for index in range(1000)]


def test_processes_count_together() -> None:
    skips = Skips(200)
    fork = multiprocessing.get_context("fork")
    for index in (3, 3, 7):
        process = fork.Process(target=skips.add, args=(index, InputError("x.png: damaged")))
        process.start()
        process.join(20)
        assert process.exitcode == 0
    assert skips.count == 2
    with pytest.raises(InputError, match="3 of 200"):
        skips.add(9, InputError("y.png: damaged"))


def test_parts_count_together_and_each_item_once() -> None:
    skips = Skips(200)
    part = skips.part(180)
    for each in (skips, skips, part, part):
        each.add(3, InputError("x.png: damaged"))
    assert skips.count == part.count == 2
    with pytest.raises(InputError, match="3 of 200"):
        part.add(19, InputError("y.png: damaged"))


def test_corrupt_photos_are_left_out_too(tmp_path: Path) -> None:
    put(tmp_path, *(f"{i:03}.png" for i in range(101)))
    (tmp_path / "050.png").write_bytes(b"broken")
    samples = make_samples(find(tmp_path), 16, 0, Recipe(max_radius=1, beyond_radius=1))
    assert samples.skips.count == 1
    assert samples[0].blurry.shape == (16, 16, 3)


def test_the_disparity_of_photos_is_read_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "a.png", "b.png", "c.png")
    np.save(tmp_path / "a.npy", np.zeros((24, 32), np.float32))
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "3 photos, 1 with disparity" in capsys.readouterr().out
    np.save(tmp_path / "b.npy", np.zeros((32, 24), np.float32))
    (tmp_path / "c.npy").write_bytes(b"")
    said = check(tmp_path, capsys)
    assert "b.npy: [32, 24] values for a picture of [24, 32]" in said
    assert "c.npy: not a disparity map" in said
    assert "2 problems" in said


def test_two_sets_in_one_folder_are_told(tmp_path: Path) -> None:
    dut(tmp_path)
    masked(tmp_path / "CUHK604S_Training", tmp_path / "CUHK604GT_Training", ["1.jpg"], ".bmp")
    with pytest.raises(InputError, match=r"DUT600S_Training is not the only train part in it"):
        find(tmp_path)


def test_folders_without_pictures_are_called_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("blurry", "sharp"):
        (tmp_path / name).mkdir()
    assert main(["data", "check", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "it holds the folders blurry (no pictures), sharp (no pictures)" in said.out + said.err
