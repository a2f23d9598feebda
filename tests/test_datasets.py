"""Public data sets in their published folders, made small: what is found there and taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_sets import check, cuhk, ded, dpdd, dut, lfdof, put, realdof, realistic, sdd

from allfocus.cli import main
from allfocus.runtime.errors import InputError
from allfocus.train.data import batches, find, make_samples
from allfocus.train.datasets import recognise
from allfocus.train.pairs import Pair
from allfocus.train.photo_samples import PhotoSamples
from allfocus.train.rendered import render_into
from allfocus.train.synthetic import Recipe


@pytest.mark.parametrize(
    ("make", "name", "counts"),
    [
        (dpdd, "DPDD", {"train": 2, "val": 2, "test": 2}),
        (lfdof, "LFDOF", {"train": 6, "test": 6}),
        (sdd, "SDD", {"train": 2, "test": 2}),
        (realdof, "RealDOF", {"all": 50}),
        (ded, "pairs in DED's layout", {"all": 3}),
        (realistic, "Realistic", {"all": 22}),
        (cuhk, "CUHK", {"all": 2}),
        (dut, "DUT", {"train": 2, "test": 1}),
    ],
)
def test_each_is_recognised_checked_and_trained_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], None],
    name: str,
    counts: dict[str, int],
) -> None:
    make(tmp_path)
    found = recognise(tmp_path)
    assert found is not None
    assert found.name == name
    assert {split: len(pairs) for split, pairs in found.splits.items()} == counts
    assert main(["data", "check", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data_set"] == name
    assert {split["name"]: split["pairs"] for split in told["splits"]} == counts
    samples = make_samples(find(tmp_path), 16, 0, Recipe(views=True))
    batch = next(batches(samples, start=0, stop=1, batch=2, max_radius=8, workers=0))
    assert (batch.left is not None) == (name == "DPDD")


def test_views_that_a_recipe_does_not_use_are_not_read(tmp_path: Path) -> None:
    """Nor are pictures then only mirrored: quarter turns are what views alone forbid."""
    dpdd(tmp_path)
    rows = np.broadcast_to(np.arange(0, 240, 10, np.uint8)[:, None, None], (24, 32, 3))
    for file in tmp_path.glob("train_*/*/*.png"):
        cv2.imwrite(str(file), rows)
    items = find(tmp_path)
    for views in (True, False):
        samples = make_samples(items, 24, 0, Recipe(views=views))
        crops = [samples[index] for index in range(30)]
        assert all((crop.left is not None) == views for crop in crops)
        quarter_turned = [bool(np.ptp(crop.blurry, axis=1).max() > 0.5) for crop in crops]
        assert any(quarter_turned) != views
    for side in "lr":
        for file in (tmp_path / f"train_{side}" / "source").iterdir():
            file.write_bytes(b"no picture")
    assert make_samples(items, 16, 0, Recipe())[0].left is None


def test_dpdd_pairs_by_order_and_has_views(tmp_path: Path) -> None:
    dpdd(tmp_path)
    first = find(tmp_path)[0]
    assert isinstance(first, Pair)
    assert first.sharp is not None
    assert (first.blurry.name, first.sharp.name) == ("1P0A01.png", "1P0A00.png")
    assert first.left == tmp_path / "train_l" / "source" / "1P0A01.png"
    assert len(find(tmp_path, "test")) == 2


def test_maps_of_ones_own_are_found_in_dpdd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made for one split, where that is given, and for all of them from the root."""
    dpdd(tmp_path)
    small = ("--max-radius", "1", "--window", "3")
    assert main(["data", "make-maps", str(tmp_path / "train_c"), *small]) == 0
    for folder in (tmp_path, tmp_path / "train_c"):
        pair = find(folder)[0]
        assert isinstance(pair, Pair)
        assert pair.sharp is not None
        assert (pair.blurry.name, pair.sharp.name) == ("1P0A01.png", "1P0A00.png")
        assert pair.defocus == tmp_path / "train_c/defocus/1P0A01.png"
    found = recognise(tmp_path)
    assert found is not None
    assert found.splits["test"][0].defocus is None
    assert found.splits["train"][0].left == tmp_path / "train_l/source/1P0A01.png"
    assert main(["data", "make-maps", str(tmp_path), *small]) == 0
    assert "4 maps in 3 folders of" in capsys.readouterr().out
    whole = recognise(tmp_path)
    assert whole is not None
    assert whole.splits["test"][0].defocus == tmp_path / "test_c/defocus/1P0A01.png"


def test_pairing_by_order_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dpdd(tmp_path / "dpdd")
    ded(tmp_path / "ded")
    assert main(["data", "check", str(tmp_path / "dpdd")]) == 0
    assert "places in order, since names and numbers differ: train, val, test" in (
        capsys.readouterr().out
    )
    assert main(["data", "check", str(tmp_path / "ded")]) == 0
    assert "places in order" not in capsys.readouterr().out


def test_a_mirror_exchanges_the_views(tmp_path: Path) -> None:
    for name in ("train_c/source", "train_c/target", "train_l/source", "train_r/source"):
        put(tmp_path / name, "a.png", height=32)
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    white[:, 16:] = 0  # the left view sees light on the left side
    for side, image in (("l", white), ("r", black)):
        cv2.imwrite(str(tmp_path / f"train_{side}" / "source" / "a.png"), image)
    samples = make_samples(find(tmp_path), 32, 0, Recipe(views=True))
    sides = set()
    for index in range(12):
        sample = samples[index]
        assert sample.left is not None
        assert sample.right is not None
        lit = sample.left if sample.left.any() else sample.right
        sides.add((bool(sample.left.any()), bool(lit[:, :8].any())))
    assert sides == {(True, True), (False, False)}


def test_only_a_test_split_is_judged_on_but_not_trained_on(tmp_path: Path) -> None:
    sdd(tmp_path)
    (tmp_path / "train_patches").rename(tmp_path / "train")
    assert [item.blurry.parents[1].name for item in find(tmp_path) if isinstance(item, Pair)] == [
        "train",
        "train",
    ]
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="SDD, but only its test part, which is for judging"):
        find(tmp_path)
    assert len(find(tmp_path, "test")) == len(find(tmp_path, "val")) == 2


def test_photos_are_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a.png", "b.jpg")
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "2 photos" in capsys.readouterr().out


def test_rendered_samples_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = PhotoSamples([], 16, 0, Recipe(max_radius=1, beyond_radius=1.5, views=True))
    assert len(list(render_into(tmp_path, samples, 3, 0))) == 3
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "all: 3 samples, 3 maps, 3 with views; 16x16 (3)" in capsys.readouterr().out
    (tmp_path / "sharp.npy").unlink()
    assert "render it again" in check(tmp_path, capsys)


@pytest.mark.parametrize("make", [ded, lfdof, cuhk, realdof])
def test_what_is_hidden_is_no_picture(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    pairs = find(tmp_path)
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        (folder / ".0-allfocus-0123abcd.png").write_bytes(b"half")
        (folder / "._out_of_focus0001.jpg").write_bytes(b"macOS")
        (folder / ".thumbnails").mkdir()
    assert find(tmp_path) == pairs
    put(tmp_path / "photos", "a.png")
    (tmp_path / "photos" / "._a.png").write_bytes(b"macOS")
    assert find(tmp_path / "photos") == [tmp_path / "photos" / "a.png"]
