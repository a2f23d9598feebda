"""Folders named as BasicSR, NAFNet, GoPro and Restormer name them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.cli import main
from allfocus.runtime.errors import InputError
from allfocus.train.data import find
from allfocus.train.datasets import recognise
from allfocus.train.pairs import Pair

NAMES = [("input", "target"), ("lq", "gt"), ("blur", "sharp"), ("LQ", "GT"), ("blurry", "target")]


def put(folder: Path, *names: str, blurred: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        pixels = np.random.default_rng(len(name)).integers(0, 256, (48, 64, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.GaussianBlur(pixels, (9, 9), 2) if blurred else pixels)


def fill(folder: Path, blurry: str = "input", sharp: str = "target", files: int = 2) -> Path:
    names = [f"{i:06}.png" for i in range(files)]
    put(folder / blurry, *names, blurred=True)
    put(folder / sharp, *names)
    return folder


def splits(folder: Path) -> dict[str, int]:
    found = recognise(folder)
    assert found is not None
    return {name: len(pairs) for name, pairs in found.splits.items()}


@pytest.mark.parametrize(("blurry", "sharp"), NAMES)
@pytest.mark.parametrize("split", [False, True])
def test_names_of_the_field_are_known(
    tmp_path: Path, blurry: str, sharp: str, *, split: bool
) -> None:
    for name in ("train", "test") if split else ("",):
        fill(tmp_path / name, blurry, sharp, files=2 + (name == "test"))
    assert splits(tmp_path) == ({"train": 2, "test": 3} if split else {"all": 2})
    base = tmp_path / "train" if split else tmp_path
    pair = find(tmp_path)[0]
    assert isinstance(pair, Pair)
    assert (pair.blurry, pair.sharp) == (
        base / blurry / "000000.png",
        base / sharp / "000000.png",
    )
    assert main(["data", "check", str(tmp_path)]) == 0


def test_scenes_of_a_split_are_taken_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """GoPro's folders, in which each scene begins with the same name."""
    for split, scenes in (("train", ("GOPR1", "GOPR2")), ("test", ("GOPR3",))):
        for scene in scenes:
            fill(tmp_path / split / scene, "blur", "sharp")
            put(tmp_path / split / scene / "blur_gamma", "000000.png")
    assert splits(tmp_path) == {"train": 4, "test": 2}
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "train: the pairs of 2 folders, GOPR1, GOPR2" in capsys.readouterr().out


def test_a_scene_without_its_other_half_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", "blur", "sharp")
    put(tmp_path / "train" / "b" / "blur", "000000.png")
    (tmp_path / "train" / "notes").mkdir()
    with pytest.raises(InputError, match="train/b: blur/ without its counterpart"):
        recognise(tmp_path)
    (tmp_path / "train" / "b" / "blur").rename(tmp_path / "train" / "b" / "gt")
    with pytest.raises(InputError, match="gt/ without its counterpart; expected one of inputC"):
        recognise(tmp_path)


@pytest.mark.parametrize("wrong", ["shrp", "sharpp"])
def test_a_split_that_is_not_whole_is_named(tmp_path: Path, wrong: str) -> None:
    fill(tmp_path / "train")
    put(tmp_path / "val" / "blurry", "0.png")
    put(tmp_path / "val" / wrong, "0.png")
    with pytest.raises(InputError, match="val: blurry/ without its counterpart; expected one of"):
        recognise(tmp_path)
    (tmp_path / "val" / "blurry").rename(tmp_path / "val" / "blured")
    with pytest.raises(InputError, match="val: no pairs in it, as there are beside it; expected"):
        recognise(tmp_path)


def test_what_is_like_sdd_but_for_maps_and_val_is_ones_own(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        fill(tmp_path / split, "blur", "gt")
    assert splits(tmp_path) == {"train": 2, "val": 2, "test": 2}
    (tmp_path / "val").rename(tmp_path.parent / f"{tmp_path.name}-val")
    put(tmp_path / "train" / "defocus", "000000.png", "000001.png")
    assert splits(tmp_path) == {"train": 2, "test": 2}  # where one part alone has maps
    pair = find(tmp_path)[0]
    assert isinstance(pair, Pair)
    assert pair.defocus is not None


def restormer(folder: Path) -> Path:
    fill(folder, "inputC", "target")
    for view in ("inputL", "inputR"):
        put(folder / view, "000000.png", "000001.png", blurred=True)
    return folder


def test_dpdd_as_restormer_hands_it_on_has_views(tmp_path: Path) -> None:
    for split in ("train", "test"):
        restormer(tmp_path / split / "DPDD")
    assert splits(tmp_path) == {"train": 2, "test": 2}
    pair = find(tmp_path)[1]
    assert isinstance(pair, Pair)
    base = tmp_path / "train" / "DPDD"
    assert (pair.left, pair.right) == (
        base / "inputL" / "000001.png",
        base / "inputR" / "000001.png",
    )
    for path in (base / "inputR").iterdir():
        path.unlink()
    (base / "inputR").rmdir()
    with pytest.raises(InputError, match="one of inputL and inputR is missing; expected both"):
        recognise(tmp_path)


def test_maps_are_made_for_a_split_and_found_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train/a", "train/b", "test"):
        fill(tmp_path / split)
    small = ("--max-radius", "1", "--window", "3")
    # A folder of scenes by itself is neither pairs nor splits.
    assert main(["data", "make-maps", str(tmp_path / "train"), *small]) == 1
    assert main(["data", "make-maps", str(tmp_path / "test"), *small]) == 0
    assert f"2 maps in {tmp_path / 'test' / 'defocus'}" in capsys.readouterr().out
    assert main(["data", "make-maps", str(tmp_path), *small]) == 0
    assert "4 maps in 3 folders of" in capsys.readouterr().out
    places = [pair.defocus for pair in find(tmp_path) if isinstance(pair, Pair)]
    assert places[0] == tmp_path / "train" / "a" / "defocus" / "000000.png"
    assert places[-1] == tmp_path / "train" / "b" / "defocus" / "000001.png"


@pytest.mark.parametrize(
    ("exchange", "said"),
    [
        (True, "2 of 2 sharp pictures are softer than their blurry ones; are the folders exch"),
        (False, "2 of 2 sharp pictures are their blurry ones, to the pixel"),
    ],
)
def test_truths_that_are_none_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, *, exchange: bool
) -> None:
    if exchange:
        fill(tmp_path, "target", "input")
    else:
        names = ("000000.png", "000001.png")
        put(tmp_path / "input", *names)
        put(tmp_path / "target", *names)
    assert main(["data", "check", str(tmp_path)]) == 1
    assert said in capsys.readouterr().out
