"""Folders of pairs: what is recognised, and what each refusal says."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from allfocus.benchmarks.pairs import open_data
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pictures.metadata import upright
from allfocus.runtime.spec import Size
from allfocus.train.datasets import recognise
from allfocus.train.pairs import list_images, read_map, read_rgb

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


@pytest.mark.parametrize("ending", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("value", [3, 6])
def test_a_turned_map_lies_as_its_turned_picture(tmp_path: Path, value: int, ending: str) -> None:
    """`allfocus deblur --map` labels the map of a phone's picture as it labels that."""
    exif = Image.Exif()
    exif[0x0112] = value
    plane = np.zeros((40, 64), np.uint8)
    plane[:, :32] = 200
    path = tmp_path / f"0.{ending}"
    lossless = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(plane).save(path, exif=exif, **lossless)
    expected = upright(plane, value)
    radius = read_map(path, 255.0, "blurred")
    assert radius.shape == read_rgb(path).shape[:2] == expected.shape
    np.testing.assert_allclose(radius, expected, atol=3)


def test_white_in_a_map_is_the_radius_that_is_given(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp", "defocus", count=1)
    cv2.imwrite(str(folder / "defocus" / "0.png"), np.full((20, 30), 255, np.uint8))
    (pair,) = open_data(str(folder), 12.0)
    assert pair.radius is not None
    assert (pair.radius == 12).all()
    assert pair.in_focus is not None
    assert not pair.in_focus.any()


def test_maps_of_16_bits_say_their_radius_themselves(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp", "defocus", count=1)
    assert not any("16 bits" in note for note in open_data(str(folder), 12.0).notes)
    cv2.imwrite(str(folder / "defocus" / "0.png"), np.full((20, 30), 640, np.uint16))
    data = open_data(str(folder), 12.0)
    assert "maps of 16 bits: radii in 1/256 pixel, whatever --map-radius says" in data.notes
    (pair,) = data
    assert pair.radius is not None
    assert (pair.radius == 2.5).all()


def test_a_limit_and_a_size_cut_and_say_so(tmp_path: Path) -> None:
    data = open_data(str(fill(tmp_path, "blurry", "sharp", "defocus", count=3)), 8.0)
    cut = data.limited(2, Size(10, 50))
    assert len(cut) == 2
    first, whole = next(iter(cut)), next(iter(data))
    assert first.radius is not None
    assert first.radius.shape == (20, 10)
    np.testing.assert_array_equal(first.blurry, whole.blurry[:, 10:20])
    (note,) = data.notes
    assert note == "no splits here: judged are all pairs, those that a model was trained on too"
    assert cut.notes == (
        note,
        "only the first 2 of 3 pictures",
        "only the middle of each picture, 10x50 pixels at most",
    )
    assert data.limited(3, None).notes == data.notes


def test_pairs_by_order_alone_are_noted(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp")
    for path in sorted((folder / "blurry").iterdir()):
        path.rename(path.with_name(f"x{chr(97 + int(path.stem))}.png"))
    assert any("places in order" in note for note in open_data(str(folder), 8.0).notes)


def test_a_folder_is_named_by_its_files_wherever_it_lies(tmp_path: Path) -> None:
    first = open_data(str(fill(tmp_path / "a" / "mine", "blurry", "sharp")), 8.0).name
    assert first.startswith("pairs, mine, files ")
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_data(str(tmp_path / "b" / "mine"), 8.0).name == first
    (tmp_path / "b" / "mine" / "sharp" / "1.png").write_bytes(b"another")
    assert open_data(str(tmp_path / "b" / "mine"), 8.0).name != first


def test_what_is_no_folder_of_pairs_is_told_what_one_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder; expected pairs in the layout of DPDD"):
        open_data(str(tmp_path / "none"), 8.0)
    with pytest.raises(UsageError, match=r"no pairs in it \(found nothing\)"):
        open_data(str(tmp_path), 8.0)
    fill(tmp_path, "blurry", "truth")
    with pytest.raises(UsageError, match=r"no pairs in it \(found blurry/, truth/\); expected"):
        open_data(str(tmp_path), 8.0)


def test_a_picture_without_its_partner_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp", "defocus")
    (folder / "defocus" / "1.png").unlink()
    with pytest.raises(UsageError, match="2 blurry, 2 sharp pictures, 1 maps"):
        open_data(str(folder), 8.0)
    (folder / "sharp" / "1.png").unlink()
    with pytest.raises(UsageError, match="2 blurry, 1 sharp"):
        open_data(str(folder), 8.0)


def dpdd(folder: Path, *splits: str) -> Path:
    for split in splits:
        fill(folder, f"{split}_c/source", f"{split}_c/target", count=len(split))
    return folder


def test_views_are_read_where_they_are_wanted(tmp_path: Path) -> None:
    folder = dpdd(tmp_path, "test")
    for side in "lr":
        fill(folder, f"test_{side}/source", count=4)
    plain = next(iter(open_data(str(folder), 8.0)))
    assert plain.left is None
    pair = next(iter(open_data(str(folder), 8.0, views=True)))
    assert pair.left is not None
    assert pair.right is not None
    assert pair.left.shape == pair.right.shape == pair.blurry.shape


def test_what_is_judged_is_not_what_was_trained_on(tmp_path: Path) -> None:
    whole = open_data(str(dpdd(tmp_path / "whole", "train", "val", "test")), 8.0)
    assert (len(whole), whole.notes) == (4, ())
    part = open_data(str(dpdd(tmp_path / "part", "train", "val")), 8.0)
    assert len(part) == 3
    assert part.notes == ("no test split here: judged is the val split",)
    trained = open_data(str(dpdd(tmp_path / "trained", "train")), 8.0)
    assert len(trained) == 5
    (note,) = trained.notes
    assert "judged is the train split" in note
    assert "trained on it" in note


def test_pictures_of_scenes_are_told_apart(tmp_path: Path) -> None:
    for scene in ("cup", "lawn"):
        fill(tmp_path, f"test/{scene}/blur", f"test/{scene}/sharp", count=1)
    data = open_data(str(tmp_path), 8.0)
    assert [pair.name for pair in data] == ["cup/0", "lawn/0"]
    assert "test: the pairs of 2 folders, cup, lawn" in data.notes


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    folder = fill(tmp_path, "blurry", "sharp")
    (folder / "sharp" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png: not a picture"):
        list(open_data(str(folder), 8.0))
    (folder / "sharp" / "0.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"0\.png: empty \(0 bytes\)"):
        list(open_data(str(folder), 8.0))
    cv2.imwrite(str(folder / "sharp" / "0.png"), np.zeros((20, 31, 3), np.uint8))
    with pytest.raises(InputError, match=r"0\.png: sizes differ"):
        list(open_data(str(folder), 8.0))


def test_folders_are_no_pictures_and_links_that_lead_nowhere_are(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "b.png").touch()
    (tmp_path / "a.jpg").symlink_to("gone.jpg")
    (tmp_path / "._b.png").touch()
    assert list_images(tmp_path) == [tmp_path / "a.jpg", tmp_path / "b.png"]


def matched(folder: Path, blurry: list[str], sharp: list[str]) -> tuple[dict[str, str], bool]:
    """Partners by stem, and whether a note says that only the order told them."""
    for name, stems in (("blurry", blurry), ("sharp", sharp)):
        (folder / name).mkdir(exist_ok=True)
        for old in (folder / name).iterdir():
            old.unlink()
        for stem in stems:
            (folder / name / f"{stem}.png").touch()
    found = recognise(folder)
    assert found is not None
    partners = {b.blurry.stem: b.sharp.stem for b in found.pairs() if b.sharp is not None}
    return partners, any("order" in note for note in found.notes)


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    plain, padded = [f"{i}" for i in range(1, 13)], [f"{i:02}" for i in range(1, 13)]
    found, by_order = matched(tmp_path, plain, padded)
    assert found == dict(zip(plain, padded, strict=True))
    assert not by_order
    found, _ = matched(tmp_path, [f"{i}_blurry" for i in plain], [f"gt{i}" for i in padded])
    assert found == {f"{i}_blurry": f"gt{int(i):02}" for i in plain}


def test_what_is_missing_on_both_sides_is_named(tmp_path: Path) -> None:
    images = [f"image_{i:03}" for i in range(1, 8) if i != 5]
    sharps = [f"sharp_{i:03}" for i in range(1, 8) if i != 3]
    with pytest.raises(InputError, match=r"blurry/image_003\.png, sharp/sharp_005\.png; give"):
        matched(tmp_path, images, sharps)


def test_what_all_names_have_around_their_own_does_not_matter(tmp_path: Path) -> None:
    found, by_order = matched(tmp_path, ["cat_1", "dog_1"], ["gt_cat_1_sharp", "gt_dog_1_sharp"])
    assert found == {"cat_1": "gt_cat_1_sharp", "dog_1": "gt_dog_1_sharp"}
    assert not by_order
    with pytest.raises(InputError, match=r"with several: blurry/20\.png, sharp/2\.png; give"):
        matched(tmp_path, ["1", "20"], ["1", "2"])  # a number is not cut


def test_capitals_and_accents_may_be_written_otherwise(tmp_path: Path) -> None:
    found, by_order = matched(tmp_path, ["Apple", "banana"], ["apple", "Banana"])
    assert found == {"Apple": "apple", "banana": "Banana"}
    assert not by_order
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    found, _ = matched(tmp_path, [composed, "b"], [apart, "b"])
    assert found == {composed: apart, "b": "b"}


def test_a_number_of_several_files_pairs_none_of_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"with several: blurry/b_1\.png, sharp/c_1\.png"):
        matched(tmp_path, ["a_1", "b_1"], ["a_1", "c_1"])


def test_the_order_tells_where_nothing_else_does(tmp_path: Path) -> None:
    found, by_order = matched(tmp_path, ["1", "2", "10"], ["101", "102", "110"])
    assert found == {"1": "101", "2": "102", "10": "110"}
    assert by_order
    with pytest.raises(InputError, match="3 blurry, 2 sharp"):
        matched(tmp_path, ["1", "2", "10"], ["101", "102"])
