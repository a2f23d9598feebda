"""What is trained on and what is held out: whole scenes, apart from each other, opened early."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.benchmarks.pairs import open_data
from allfocus.cli import main
from allfocus.runtime.errors import InputError, UsageError
from allfocus.train.data import DEAD_LEAVES, Pair, batches, find
from allfocus.train.loop import held_out_losses
from allfocus.train.models import build
from allfocus.train.recipe import Options
from allfocus.train.recipes import recipe_of
from allfocus.train.recipes.plain import PlainRecipe
from allfocus.train.rendered import Rendered, RenderedSamples
from allfocus.train.split import hold_out_scenes, open_split


def pairs(folder: Path, side: int = 48, count: int = 2) -> Path:
    rng = np.random.default_rng(side)
    for name in ("blurry", "sharp"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (side, side, 3), np.uint8)
            assert cv2.imwrite(str(folder / name / f"{i}.png"), pixels)
    return folder


def recipe(crop: int = 32, model: str = "jdrl-unet-tiny") -> PlainRecipe:
    plan = replace(PlainRecipe.paper, crop=crop)
    return PlainRecipe(model, build(model), plan, Options())


def test_all_pairs_of_a_sharp_picture_are_on_one_side() -> None:
    every = [Pair(Path(f"{s}-{b}.png"), Path(f"{s}.png"), None) for s in range(11) for b in "abc"]
    kept, held = (set(side) for side in hold_out_scenes(every))
    assert {pair.sharp for pair in held} == {Path("0.png"), Path("10.png")}  # type: ignore[union-attr]
    assert len(held) == 6
    assert kept | held == set(every)
    assert not kept & held


def test_all_pairs_of_a_scenes_folder_are_on_one_side() -> None:
    every = [
        Pair(Path(f"train/{s}/blur/{i}.png"), Path(f"train/{s}/sharp/{i}.png"), None)
        for s in "abcdefghijkl"
        for i in range(3)
    ]
    held = hold_out_scenes(every)[1]
    assert {pair.blurry.parent.parent.name for pair in held} == {"a", "k"}  # type: ignore[union-attr]
    assert len(held) == 6


def test_two_folders_may_be_data_sets(caplog: pytest.LogCaptureFixture) -> None:
    every = [Pair(Path(f"{s}/b/{i}.png"), Path(f"{s}/s/{i}.png"), None) for s in "ab" for i in "12"]
    kept, held = hold_out_scenes(every)
    assert (len(kept), len(held)) == (3, 1)
    assert "where those of one show one scene, give --val" in caplog.text


def test_links_to_one_sharp_picture_are_one_scene(tmp_path: Path) -> None:
    for scene in range(3):
        (tmp_path / f"{scene}.png").touch()
        for aperture in range(4):
            (tmp_path / f"{scene}-{aperture}.png").symlink_to(tmp_path / f"{scene}.png")
    every = [
        Pair(Path(f"{s}{a}.png"), tmp_path / f"{s}-{a}.png", None) for s in range(3) for a in "0123"
    ]
    kept, held = hold_out_scenes(every)
    assert (len(kept), len(held)) == (8, 4)
    assert len({pair.sharp.resolve() for pair in held}) == 1  # type: ignore[union-attr]


def test_a_data_sets_own_val_split_is_validated_on(tmp_path: Path) -> None:
    for split, side in (("train", 48), ("val", 40), ("test", 36)):
        pairs(tmp_path / split, side)
    split = open_split(tmp_path, None, recipe())
    assert {path.parent.parent.name for path in split.files} == {"train"}
    assert {path.parent.parent.name for path in split.held_files} == {"val"}
    assert len(split.samples) == 2


def test_maps_of_some_pairs_are_told_to_be_unused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for scene in ("a", "b"):
        pairs(tmp_path / "train" / scene)
    (tmp_path / "train" / "a" / "defocus").mkdir()
    for name in ("0.png", "1.png"):
        cv2.imwrite(str(tmp_path / "train/a/defocus" / name), np.full((48, 48), 200, np.uint8))
    open_split(tmp_path, None, recipe())
    assert "2 of 4 pairs have no map" in caplog.text
    assert main(["data", "check", str(tmp_path)]) == 1


def test_what_is_validated_on_is_as_in_the_files(tmp_path: Path) -> None:
    """No other colours, no turn: its PSNR is that of the pictures."""
    split = open_split(pairs(tmp_path / "data"), pairs(tmp_path / "val", 40), recipe())
    read = [cv2.imread(str(path)) for path in sorted((tmp_path / "val" / "blurry").iterdir())]
    files = [picture[..., ::-1] for picture in read if picture is not None]
    for index in range(5):
        codes = np.rint(255 * split.held_out[index].blurry).astype(np.uint8)
        windows = [np.lib.stride_tricks.sliding_window_view(f, (32, 32, 3)) for f in files]
        assert any((w == codes).all(axis=(-3, -2, -1)).any() for w in windows)
    trained = np.rint(255 * split.samples[0].blurry)
    assert trained.shape == (32, 32, 3)


def test_what_has_no_sharp_file_is_held_out_one_by_one() -> None:
    masks = [Pair(Path(f"{i}.png"), None, Path(f"{i}-mask.png")) for i in range(20)]
    rendered = [Rendered(Path("folder"), i) for i in range(20)]
    for items in (masks, rendered, [DEAD_LEAVES] * 20):
        kept, held = hold_out_scenes(items)  # type: ignore[arg-type]
        assert (len(kept), len(held)) == (18, 2)


def test_held_out_crops_are_as_large_as_a_judge_takes(tmp_path: Path) -> None:
    """APL's discriminator looks at crops of the training's side alone; other nets at larger."""
    data, val = pairs(tmp_path / "data"), pairs(tmp_path / "val", 160)
    net = build("apl-tiny")
    kind = recipe_of("apl-tiny", net)
    judged = kind("apl-tiny", net, replace(kind.paper, crop=32), Options())
    for one, side in ((judged, 32), (recipe(), 128)):
        held = open_split(data, val, one).held_out
        assert held[0].blurry.shape[:2] == (side, side)
    assert held_out_losses(judged, open_split(data, val, judged).held_out, 2)


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ((np.uint8(1), np.uint8(0)), True),  # 0 to 1 in 8 bits
        ((np.uint8(1), np.uint8(200)), False),  # one that is all in focus says nothing
        ((np.uint16(1), np.uint16(1)), False),  # 1/256 pixel may be meant: it is told
    ],
)
def test_maps_in_another_range_are_refused_before_the_work(
    tmp_path: Path, values: tuple[np.generic, ...], refused: bool
) -> None:
    """They would say that all is in focus."""
    data = pairs(tmp_path / "data")
    (data / "defocus").mkdir()
    for index, value in enumerate(values):
        plane = np.full((48, 48), value)
        assert cv2.imwrite(str(data / "defocus" / f"{index}.png"), plane)
    other = pairs(tmp_path / "other", 50)
    said = r"defocus: the maps' largest value is 1 of 255; expected white"
    for opened in (
        lambda: open_split(data, None, recipe()),
        lambda: open_split(other, data, recipe()),
        lambda: open_data(str(data), 8.0),
    ):
        with pytest.raises(InputError, match=said) if refused else nullcontext():
            opened()


def maps(folder: Path, *planes: np.ndarray) -> Path:
    (folder / "defocus").mkdir()
    for index, plane in enumerate(planes):
        assert cv2.imwrite(str(folder / "defocus" / f"{index}.png"), plane)
    return folder


def test_16_bits_that_hold_values_of_8_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They would be read as a pixel at most."""
    ramp = np.tile(np.arange(48, dtype=np.uint16) * 5, (48, 1))
    open_split(maps(pairs(tmp_path), ramp, ramp), None, recipe())
    assert "the maps' largest radius is 0.92 pixels, read from 16 bits" in caplog.text


def test_a_map_that_cannot_be_read_does_not_end_the_search(tmp_path: Path) -> None:
    data = maps(pairs(tmp_path, count=3), *[np.ones((48, 48), np.uint8)] * 3)
    (data / "defocus" / "0.png").write_text("nothing")
    with pytest.raises(InputError, match="the maps' largest value is 1 of 255"):
        open_split(data, None, recipe())


def test_pairs_by_order_alone_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = pairs(tmp_path)
    open_split(data, None, recipe())
    assert not caplog.text
    for old, new in (("0", "lake"), ("1", "tower")):
        (data / "blurry" / f"{old}.png").rename(data / "blurry" / f"{new}.png")
    open_split(data, None, recipe())
    assert "paired by their places in order" in caplog.text


def test_one_scene_cannot_be_both() -> None:
    one = [Pair(Path(f"{b}.png"), Path("sharp.png"), None) for b in "abc"]
    with pytest.raises(InputError, match="--val"):
        hold_out_scenes(one)


@pytest.mark.parametrize("linked", [False, True])
def test_the_same_files_cannot_be_trained_and_validated_on(tmp_path: Path, linked: bool) -> None:
    data = pairs(tmp_path / "data")
    val = data
    if linked:
        val = pairs(tmp_path / "val", 52)
        (val / "sharp/0.png").unlink()
        (val / "sharp/0.png").symlink_to(data / "sharp/0.png")
    with pytest.raises(UsageError, match=r"0\.png.* both trained on"):
        open_split(data, val, recipe())


def test_validation_crops_are_as_large_as_the_pictures_allow(tmp_path: Path) -> None:
    data = pairs(tmp_path / "data")
    for side, wanted in ((100, 32), (128, 128)):
        split = open_split(data, pairs(tmp_path / str(side), side), recipe())
        assert split.held_out[0].blurry.shape == (wanted, wanted, 3)


@pytest.mark.parametrize("model", ["defocusgan-tiny", "sftnet-tiny", "didanet-tiny"])
def test_white_in_a_map_is_1_in_a_batch(tmp_path: Path, model: str) -> None:
    data = pairs(tmp_path)
    (data / "defocus").mkdir()
    for i in range(2):
        assert cv2.imwrite(str(data / "defocus" / f"{i}.png"), np.full((48, 48), 255, np.uint8))
    net = build(model)
    kind = recipe_of(model, net)
    one = kind(model, net, replace(kind.paper, crop=32), Options())
    split = open_split(data, None, one)
    for samples in (split.samples, split.held_out):
        got = next(batches(samples, start=0, stop=1, batch=1, max_radius=one.max_radius, workers=0))
        assert (got.defocus == 1).all()


def test_pictures_too_small_to_validate_on_are_told_at_once(tmp_path: Path) -> None:
    val = pairs(tmp_path / "val", 12)
    with pytest.raises(InputError, match="12x12 pixels, and a crop of 32 takes at least 16"):
        open_split(pairs(tmp_path / "data"), val, recipe())


def broken(folder: Path, kind: str, *, trained: int, held: int, total: int = 120) -> Path:
    """Photos or pairs, of which some that are trained on and some that are held out are damaged."""
    data = pairs(folder, 32, total)
    if kind == "photos":
        data /= "sharp"
    for items, count in zip(hold_out_scenes(find(data)), (trained, held), strict=True):
        for item in items[1 : count + 1]:
            (item if isinstance(item, Path) else item.files[0]).write_bytes(b"broken")
    return data


@pytest.mark.parametrize("kind", ["photos", "pairs"])
def test_one_damaged_picture_among_the_held_out_is_left_out_and_named(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = broken(tmp_path, kind, trained=0, held=1)
    split = open_split(data, None, recipe())
    assert "1 of 120 so far" in caplog.text
    assert not isinstance(split.held_out, RenderedSamples)
    assert split.held_out.skips.count == 1
    for index in range(60):
        assert split.held_out[index].blurry.shape == (32, 32, 3)
    item = hold_out_scenes(find(data))[1][1]
    name = str(item if isinstance(item, Path) else item.files[0])
    assert [record.getMessage().count(name) for record in caplog.records] == [1]


@pytest.mark.parametrize("kind", ["photos", "pairs"])
@pytest.mark.parametrize(("held", "total"), [(2, 120), (1, 20)])
def test_over_one_in_a_hundred_of_all_is_refused_before_the_training(
    tmp_path: Path, kind: str, held: int, total: int
) -> None:
    data = broken(tmp_path, kind, trained=0, held=held, total=total)
    with pytest.raises(InputError, match=f"{held} of {total} pictures or pairs cannot be used"):
        open_split(data, None, recipe())


@pytest.mark.parametrize("kind", ["photos", "pairs"])
def test_both_parts_of_a_folder_count_together(tmp_path: Path, kind: str) -> None:
    data = broken(tmp_path, kind, trained=1, held=1)

    def draw() -> None:
        samples = open_split(data, None, recipe()).samples
        for index in range(1000):
            samples[index]

    with pytest.raises(InputError, match="2 of 120"):  # of photos by opening them
        draw()


def test_a_val_folder_counts_by_itself(tmp_path: Path) -> None:
    data = broken(tmp_path / "data", "photos", trained=1, held=0)
    val = broken(tmp_path / "val", "photos", trained=1, held=0)
    assert len(open_split(data, val, recipe()).held_out) == 119


def test_data_without_a_truth_is_refused_by_its_name(tmp_path: Path) -> None:
    data, masks = pairs(tmp_path / "data"), pairs(tmp_path / "masks", 52)
    with pytest.raises(UsageError, match="data: no maps"):
        open_split(data, None, recipe(model="apl-detect-tiny"))
    for old, new in (("blurry", "image"), ("sharp", "gt")):  # CUHK's
        (masks / old).rename(masks / new)
        for path in sorted((masks / new).iterdir()):
            path.rename(path.with_name(f"out_of_focus{path.name}"))
    assert all(isinstance(pair, Pair) and pair.sharp is None for pair in find(masks))
    with pytest.raises(UsageError, match="masks: no sharp pictures"):
        open_split(masks, None, recipe())
    with pytest.raises(UsageError, match="masks: no sharp pictures"):
        open_split(data, masks, recipe())
