"""Files of calibrated ranges, and what they were found on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from quantised import ranges, traced

from allfocus.export import ranges as ranges_file
from allfocus.export.calibration import crops_of
from allfocus.export.quant_layers import find_layers
from allfocus.runtime.errors import ArtefactError, InputError


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    ranges().write(tmp_path / "ranges.json")
    assert ranges_file.read(tmp_path / "ranges.json") == ranges()


def test_every_layer_has_a_range_that_holds_what_it_met() -> None:
    found = ranges()
    assert set(found.layers) == {layer.name for layer in find_layers(traced()[0])}
    assert found.layers["estimator.head.0"].input == (0.0, 1.0)  # the picture
    assert found.layers["estimator.head.0"].output[0] == 0.0  # behind its ReLU


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "allfocus/ranges/0"}, "expected ranges"),
        ({"layers": {"a": {"input": [0, 1]}}}, "damaged"),
        ({"layers": []}, "damaged"),
        ({"layers": {"a": {"input": [1, 0], "output": [0, 1]}}}, "from 1.0 to 0.0"),
        ({"crops": "many"}, "crops: expected int"),
        ({"colour": 1}, "unknown keys"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "ranges.json"
    data = {"schema": ranges_file.SCHEMA, **asdict(ranges()), **change}
    path.write_text(json.dumps(data))
    with pytest.raises(ArtefactError, match=message):
        ranges_file.read(path)


def test_a_missing_file_and_one_that_is_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such file of ranges"):
        ranges_file.read(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ArtefactError, match="damaged"):
        ranges_file.read(tmp_path / "bad.json")


def pictures(folder: Path, *shapes: tuple[int, int], flat: bool = False) -> Path:
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate(shapes):
        image = np.full((height, width, 3), 128, np.uint8)
        if not flat:
            image = rng.integers(0, 256, image.shape, np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return folder


def test_crops_of_a_folder_are_the_same_each_time(tmp_path: Path) -> None:
    pictures(tmp_path, (80, 100), (64, 64), (40, 300))  # the last one is too low, and left out
    first, second = (crops_of(tmp_path, 4, 64) for _ in range(2))
    assert len(first.arrays) == 4
    for a, b in zip(first.arrays, second.arrays, strict=True):
        assert (a.shape, a.dtype) == ((1, 3, 64, 64), np.float32)
        np.testing.assert_array_equal(a, b)
        assert 0 <= a.min() < a.max() <= 1


def test_generated_crops_need_no_folder() -> None:
    crops = crops_of(None, 2, 64)
    assert [each.shape for each in crops.arrays] == [(1, 3, 64, 64)] * 2
    assert "generated" in crops.source
    assert all(each.std() > 0.02 for each in crops.arrays)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(InputError, match="no pictures to calibrate on"):
        crops_of(tmp_path)
    with pytest.raises(InputError, match="no pictures to calibrate on"):
        crops_of(tmp_path / "absent")


def test_one_flat_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="flat"):
        crops_of(pictures(tmp_path, (200, 200), flat=True))


def test_pictures_smaller_than_a_crop_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"crops of 160x160 .* no picture is that large \(0.png 90x"
    ):
        crops_of(pictures(tmp_path, (100, 90), (300, 40)))
