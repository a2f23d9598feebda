"""Public data sets in their published folders, made small; and what can be wrong with them."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.cli import main
from allfocus.runtime.errors import InputError
from allfocus.train.data import batches, find, make_samples
from allfocus.train.datasets import recognise
from allfocus.train.pairs import Pair, read_map
from allfocus.train.photo_samples import PhotoSamples
from allfocus.train.rendered import render_into
from allfocus.train.skips import Skips
from allfocus.train.synthetic import Recipe


def put(folder: Path, *names: str, seed: int = 0, height: int = 24, channels: int = 3) -> None:
    """Small pictures of these names, others in each folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng([seed, number, *folder.name.encode()])
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (height, 32, channels), np.uint8))


def dpdd(folder: Path) -> None:
    for split in ("train", "val", "test"):
        put(folder / f"{split}_c" / "source", "1P0A01.png", "1P0A03.png", seed=1)
        put(folder / f"{split}_c" / "target", "1P0A00.png", "1P0A02.png", seed=2)
        for side in "lr":
            put(folder / f"{split}_{side}" / "source", "1P0A01.png", "1P0A03.png", seed=ord(side))


def lfdof(folder: Path) -> None:
    for split in ("train", "test"):
        for scene in ("IMG_1", "IMG_2"):
            blurry = [f"{scene}_ap1_0{i}.png" for i in range(3)]
            put(folder / f"{split}_data" / "input" / scene, *blurry)
        put(folder / f"{split}_data" / "ground_truth", "IMG_1.png", "IMG_2.png")


def sdd(folder: Path) -> None:
    for split in ("train_patches", "test"):
        for name in ("blur", "gt"):
            put(folder / split / name, "1.png", "2.png")


def realdof(folder: Path) -> None:
    for name in ("source", "target"):
        put(folder / name, *(f"{i:02}.png" for i in range(50)))


def ded(folder: Path) -> None:
    put(folder / "image", *(f"image_{i}.jpg" for i in range(3)))
    put(folder / "sharp", *(f"sharp_{i}.jpg" for i in range(3)))
    put(folder / "filtered", *(f"defocus_filterd_{i}.png" for i in range(3)), channels=1)


def realistic(folder: Path) -> None:
    for name, channels in (("blurry", 3), ("sharp", 3), ("defocus", 1)):
        put(folder / name, *(f"{i:02}.png" for i in range(22)), channels=channels)


def masked(images: Path, masks: Path, names: list[str], suffix: str = ".png") -> None:
    """Pictures with detail on the left; masks that are white there."""
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        picture = np.full((24, 32, 3), 90, np.uint8)
        picture[:, :16] = np.random.default_rng(1).integers(0, 256, (24, 16, 3))
        mask = np.zeros((24, 32), np.uint8)
        mask[:, :16] = 255
        cv2.imwrite(str(images / name), picture)
        cv2.imwrite(str(masks / Path(name).with_suffix(suffix)), mask)


def cuhk(folder: Path) -> None:
    names = ["out_of_focus0001.jpg", "out_of_focus0002.jpg", "motion0001.jpg"]
    masked(folder / "image", folder / "gt", names)


def dut(folder: Path) -> None:
    names = ["1.jpg", "2.jpg"]
    masked(folder / "DUT600S_Training", folder / "DUT600GT_Training", names, ".bmp")
    masked(folder / "DUT500S-Testing", folder / "DUT500GT-Testing", names[:1], ".bmp")


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


def test_a_view_without_its_picture_is_named(tmp_path: Path) -> None:
    dpdd(tmp_path)
    (tmp_path / "val_l/source/1P0A01.png").rename(tmp_path / "val_l/source/1P0A09.png")
    with pytest.raises(InputError, match=r"val_c/source/1P0A01\.png, val_l/source/1P0A09\.png"):
        recognise(tmp_path)


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


def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says of a folder with something wrong."""
    assert main(["data", "check", str(folder)]) == 1
    said = capsys.readouterr()
    return said.out + said.err


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


def test_corrupt_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ded(tmp_path)
    whole = (tmp_path / "sharp" / "sharp_2.jpg").read_bytes()
    (tmp_path / "sharp" / "sharp_2.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "image" / "image_0.jpg").write_text("nothing")
    said = check(tmp_path, capsys)
    assert "sharp_2.jpg" in said
    assert "image_0.jpg" in said


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


def test_photos_are_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "a.png", "b.jpg")
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "2 photos" in capsys.readouterr().out


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


def test_rendered_samples_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = PhotoSamples([], 16, 0, Recipe(max_radius=1, beyond_radius=1.5, views=True))
    assert len(list(render_into(tmp_path, samples, 3, 0))) == 3
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "all: 3 samples, 3 maps, 3 with views; 16x16 (3)" in capsys.readouterr().out
    (tmp_path / "sharp.npy").unlink()
    assert "render it again" in check(tmp_path, capsys)


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


def test_two_sets_in_one_folder_are_told(tmp_path: Path) -> None:
    dut(tmp_path)
    masked(tmp_path / "CUHK604S_Training", tmp_path / "CUHK604GT_Training", ["1.jpg"], ".bmp")
    with pytest.raises(InputError, match=r"DUT600S_Training is not the only train part in it"):
        find(tmp_path)


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


def test_folders_without_pictures_are_called_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("blurry", "sharp"):
        (tmp_path / name).mkdir()
    assert main(["data", "check", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "it holds the folders blurry (no pictures), sharp (no pictures)" in said.out + said.err
