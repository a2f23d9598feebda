from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from allfocus.runtime.errors import InputError
from allfocus.train.data import Pair, PhotoSamples, batches, find, hold_out, make_samples
from allfocus.train.synthetic import Recipe


def picture(
    path: Path, height: int = 40, width: int = 60, seed: int = 0, channels: int = 3
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def ded(folder: Path, count: int = 3, maps: bool = True) -> Path:
    for i in range(count):
        picture(folder / "image" / f"image_{i}.png", seed=i)
        picture(folder / "sharp" / f"sharp_{i}.png", seed=10 + i)
        if maps:
            name = f"defocus_filterd_{i}.png"
            picture(folder / "filtered" / name, seed=20 + i, channels=1)
    return folder


def test_photos_are_found_and_blurred(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", seed=i)
    samples = make_samples(find(tmp_path), 16, 0, Recipe(max_radius=3))
    batch = next(batches(samples, start=0, stop=1, batch=2, max_radius=3, workers=0))
    assert batch.blurry.shape == batch.sharp.shape == (2, 3, 16, 16)
    assert batch.defocus.shape == (2, 1, 16, 16)
    assert batch.has_map


def test_a_later_start_gives_the_same_samples(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png", seed=i)
    samples = make_samples(find(tmp_path), 16, 0, Recipe(max_radius=3))
    whole = list(batches(samples, start=0, stop=3, batch=2, max_radius=3, workers=0))
    rest = list(batches(samples, start=2, stop=3, batch=2, max_radius=3, workers=0))
    assert torch.equal(whole[2].blurry, rest[0].blurry)


def test_pairs_are_found_in_the_published_layout(tmp_path: Path) -> None:
    items = find(ded(tmp_path))
    assert len(items) == 3
    first = items[0]
    assert isinstance(first, Pair)
    assert (first.blurry.name, first.sharp.name) == ("image_0.png", "sharp_0.png")
    assert first.defocus is not None
    samples = make_samples(items, 16, 0, Recipe())
    assert samples.has_map


def test_a_pair_is_cropped_at_one_place(tmp_path: Path) -> None:
    for name in ("blurry", "sharp"):
        picture(tmp_path / name / "a.png", seed=1)  # the same picture twice
    picture(tmp_path / "defocus" / "a.png", channels=1)
    samples = make_samples(find(tmp_path), 16, 0, Recipe(max_radius=8))
    sample = samples[4]
    np.testing.assert_array_equal(sample.blurry, sample.sharp)
    assert sample.radius.max() <= 8


def test_pairs_without_maps_say_so(tmp_path: Path) -> None:
    samples = make_samples(find(ded(tmp_path, maps=False)), 16, 0, Recipe())
    assert not samples.has_map


def test_every_tenth_is_held_out(tmp_path: Path) -> None:
    items = [tmp_path / f"{i}.png" for i in range(21)]
    kept, held = hold_out(items)
    assert [p.stem for p in held if isinstance(p, Path)] == ["0", "10", "20"]
    assert len(kept) == 18
    with pytest.raises(InputError, match="--val"):
        hold_out(items[:1])


def test_no_folder_and_no_pictures_name_the_layouts(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none", tmp_path):
        with pytest.raises(InputError, match="sharp/"):
            find(wrong)


def test_uneven_pairs_are_refused(tmp_path: Path) -> None:
    ded(tmp_path)
    picture(tmp_path / "image" / "one_more.png")
    with pytest.raises(InputError, match="4 blurry, 3 sharp"):
        find(tmp_path)


def test_pairs_of_different_size_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "blurry" / "a.png", 40, 60)
    picture(tmp_path / "sharp" / "a.png", 40, 50)
    samples = make_samples(find(tmp_path), 16, 0, Recipe())
    with pytest.raises(InputError, match="sizes differ"):
        samples[0]


def test_a_crop_of_over_twice_the_picture_is_refused(tmp_path: Path) -> None:
    samples = make_samples(find(ded(tmp_path)), 82, 0, Recipe())
    with pytest.raises(InputError, match=r"60x40 pixels, .*82 takes at least 41 .*--crop"):
        samples[0]


@pytest.mark.parametrize("side", [41, 60, 80])
def test_a_picture_smaller_than_the_crop_is_mirrored_at_its_borders(
    tmp_path: Path, side: int
) -> None:
    for name in ("blurry", "sharp"):
        picture(tmp_path / name / "a.png", 40, 90, seed=1)
    picture(tmp_path / "defocus" / "a.png", 40, 90, channels=1)
    samples = make_samples(find(tmp_path), side, 0, Recipe(), varied=False)
    sample = samples[2]
    assert sample.blurry.shape == (side, side, 3)
    np.testing.assert_array_equal(sample.blurry, sample.sharp)  # at one place
    top = (side - 40) // 2
    for whole in (sample.blurry, sample.radius):
        shown = whole[top : top + 40]
        wanted = np.pad(shown, ((top, side - 40 - top), *((0, 0),) * (whole.ndim - 1)), "reflect")
        np.testing.assert_array_equal(whole, wanted)


def test_a_picture_with_views_smaller_than_the_crop_is_refused(tmp_path: Path) -> None:
    for kind in ("inputC", "inputL", "inputR", "target"):
        for index in range(2):
            picture(tmp_path / kind / f"{index}.png", seed=index)
    samples = make_samples(find(tmp_path), 48, 0, replace(Recipe(), views=True))
    assert samples.has_views
    with pytest.raises(InputError, match="takes at least 48"):
        samples[0]


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"a\.png"):
        make_samples(find(tmp_path), 16, 0, Recipe())


def test_dead_leaves_need_no_photo() -> None:
    items, held = hold_out(find(Path("dead-leaves")))
    samples = make_samples(items, 16, 0, Recipe(max_radius=3, views=True, misaligned=True))
    batch = next(batches(samples, start=0, stop=1, batch=2, max_radius=3, workers=0))
    for images in (batch.blurry, batch.left, batch.right, batch.moved):
        assert images is not None
        assert images.shape == (2, 3, 16, 16)
    assert held


def test_without_views_a_batch_has_none(tmp_path: Path) -> None:
    samples = make_samples(find(ded(tmp_path)), 16, 0, Recipe())
    batch = next(batches(samples, start=0, stop=1, batch=2, max_radius=3, workers=0))
    assert batch.left is batch.right is batch.moved is None


def test_loader_processes_start_where_opencv_has_threads_already() -> None:
    """A forked process once waited for ever for threads of its parent."""
    samples = make_samples(find(Path("dead-leaves")), 16, 0, Recipe(max_radius=1, beyond_radius=1))
    cv2.setNumThreads(4)
    cv2.resize(np.zeros((2000, 2000, 3), np.float32), (1000, 1000), interpolation=cv2.INTER_CUBIC)
    steps = batches(samples, start=0, stop=2, batch=2, max_radius=8, workers=2)
    assert len(list(steps)) == 2


def test_enlarged_photos_are_softer(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    assert cv2.imwrite(str(tmp_path / "noise.png"), noise)
    plain = Recipe(sharp_share=1.0, graphics_share=0.0, jpeg_share=0.0)
    detail = []
    for share in (0.0, 1.0):
        samples = PhotoSamples([tmp_path / "noise.png"], 48, 0, replace(plain, soft_share=share))
        steps = [np.abs(np.diff(samples[i].sharp, axis=1)).mean() for i in range(6)]
        detail.append(float(np.mean(steps)))
    assert detail[1] < 0.9 * detail[0]
