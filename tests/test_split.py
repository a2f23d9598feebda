"""What is trained on and what is held out: whole scenes, apart from each other, opened early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.runtime.errors import InputError, UsageError
from allfocus.train.data import DEAD_LEAVES, Pair, find
from allfocus.train.models import build
from allfocus.train.recipe import Options
from allfocus.train.recipes.plain import PlainRecipe
from allfocus.train.rendered import Rendered
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


def test_what_has_no_sharp_file_is_held_out_one_by_one() -> None:
    masks = [Pair(Path(f"{i}.png"), None, Path(f"{i}-mask.png")) for i in range(20)]
    rendered = [Rendered(Path("folder"), i) for i in range(20)]
    for items in (masks, rendered, [DEAD_LEAVES] * 20):
        kept, held = hold_out_scenes(items)  # type: ignore[arg-type]
        assert (len(kept), len(held)) == (18, 2)


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


def test_pictures_too_small_to_validate_on_are_told_at_once(tmp_path: Path) -> None:
    val = pairs(tmp_path / "val", 24)
    with pytest.raises(InputError, match="smaller than the crop of 32"):
        open_split(pairs(tmp_path / "data"), val, recipe())


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
