"""Deblurring under a map that the caller has, in place of an estimated one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import Exported

import allfocus
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import ArtefactError, InputError, UsageError
from allfocus.runtime.given_map import checked_map, guidable
from allfocus.runtime.spec import Size

EXACT: dict[str, Any] = {"backend": "cpu", "precision": "fp32", "threads": 1}
NANO = "didanet-nano"


@pytest.fixture(scope="module")
def deblur() -> Iterator[Deblurrer]:
    with allfocus.load(NANO, **EXACT) as loaded:
        yield loaded


def blurred(height: int = 96, width: int = 160) -> np.ndarray:
    photo = cv2.imread(str(Path(allfocus.__file__).parent / "data" / "chelsea.png"))
    return cv2.GaussianBlur(photo, (0, 0), 2)[40 : 40 + height, 100 : 100 + width].copy()


def half(value: float, height: int = 96, width: int = 160) -> np.ndarray:
    """In focus on the left, `value` pixels on the right."""
    radius = np.zeros((height, width), np.float32)
    radius[:, width // 2 :] = value
    return radius


@pytest.mark.parametrize("size", [(96, 160), (90, 151)])
def test_its_own_map_gives_what_the_model_gives(deblur: Deblurrer, size: tuple[int, int]) -> None:
    frame = blurred(*size)
    own = deblur(frame)
    given = deblur(frame, defocus=own.defocus)
    assert np.abs(own.image.astype(int) - frame).max() > 10
    assert np.abs(own.image.astype(int) - given.image).max() <= 1  # 0 where the map was below 0
    assert given.defocus is not None
    np.testing.assert_allclose(given.defocus, own.defocus, atol=1e-5)
    assert given.skipped == own.skipped


def test_what_the_map_calls_sharp_stays_to_the_bit_and_is_no_work(deblur: Deblurrer) -> None:
    frame = blurred()
    assert (deblur(frame).image != frame).mean() > 0.1
    kept = deblur(frame, defocus=np.zeros(frame.shape[:2]))
    np.testing.assert_array_equal(kept.image, frame)
    assert kept.skipped == 1
    right = deblur(frame, defocus=half(4.0))
    np.testing.assert_array_equal(right.image[:, :80], frame[:, :80])
    assert (right.image[:, 80:] != frame[:, 80:]).mean() > 0.5
    assert 0 < right.skipped < 1


def test_a_wider_blur_is_undone_by_more(deblur: Deblurrer) -> None:
    """The map is believed: the same picture, called more blurred, is changed more."""
    frame = blurred().astype(np.uint8)
    changes = [
        np.abs(deblur(frame, defocus=np.full((96, 160), r)).image - frame.astype(float)).mean()
        for r in (1.2, 3.0, 5.0)
    ]
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize("size", [(96, 160), (65, 99), (33, 17)])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8])
def test_any_size_and_numbers(deblur: Deblurrer, size: tuple[int, int], dtype: type) -> None:
    frame = blurred(*size)
    radius = half(5.0, *size)
    expected = deblur(frame, defocus=radius)
    found = deblur(frame, defocus=radius.astype(dtype))
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(expected.defocus, radius)


@pytest.mark.parametrize("options", [{"ensemble": 2}, {"ensemble": 8}, {"reach": 32}])
def test_it_is_turned_and_reduced_with_the_frame(options: dict[str, Any]) -> None:
    frame, radius = blurred(), half(6.0)
    with allfocus.load(NANO, **EXACT, **options) as deblur:
        found = deblur(frame, defocus=radius)
    np.testing.assert_array_equal(found.image[:, :80], frame[:, :80])
    assert (found.image[:, 80:] != frame[:, 80:]).mean() > 0.5
    assert found.defocus is not None
    np.testing.assert_array_equal(found.defocus, radius)


def test_beyond_the_models_reach_the_map_ends_there(deblur: Deblurrer) -> None:
    frame, radius = blurred(), half(20.0)
    near = deblur(frame, defocus=radius)
    np.testing.assert_array_equal(near.image, deblur(frame, defocus=half(8.0)).image)
    assert near.defocus is not None
    assert near.defocus.max() == 8
    with allfocus.load(NANO, **EXACT, reach=32) as far:
        found = far(frame, defocus=radius)
    assert found.defocus is not None
    np.testing.assert_array_equal(found.defocus, radius)
    assert (found.image != near.image).any()


def test_in_tiles_it_is_the_same() -> None:
    frame, radius = blurred(192, 320), half(6.0, 192, 320)
    with allfocus.load(NANO, **EXACT, memory="12MiB", skip="off") as small:
        tiled = small(frame, defocus=radius)
        stage = small._stages()[1]
        assert not stage.fits(Size(320, 192))
    with allfocus.load(NANO, **EXACT, skip="off") as whole:
        expected = whole(frame, defocus=radius)
    assert np.abs(tiled.image.astype(int) - expected.image).max() <= 1


def test_the_map_may_be_checked_and_a_variant_takes_it_too() -> None:
    frame, radius = blurred(), half(4.0)
    with allfocus.load(NANO, **EXACT, check=True) as deblur:
        found = deblur(frame, defocus=radius)
        assert found.trust is not None
        plain = deblur.variant()(frame, defocus=radius)
        np.testing.assert_array_equal(plain.image, found.image)
        coarse = deblur.variant(coarse_map=True)(frame, defocus=radius)
        np.testing.assert_array_equal(coarse.image, found.image)
    with pytest.raises(ArtefactError, match="closed"):
        deblur(frame, defocus=radius)


BAD = [
    ([[1.0]], "got list: make it an array"),
    (np.zeros((96, 160, 1)), r"got float64 \[96, 160, 1\]"),
    (np.zeros((96, 160), bool), r"got bool"),
    (np.zeros((96, 160), complex), r"got complex128"),
    (np.zeros((160, 96)), r"of the frame, \[96, 160\], got \[160, 96\]: it looks turned"),
    (np.zeros((96, 159)), r"of the frame, \[96, 160\], got \[96, 159\]: enlarge or reduce it"),
    (np.full((96, 160), np.nan), "no numbers"),
    (np.full((96, 160), np.inf), "no numbers"),
    (np.full((96, 160), 1e300), "beyond all radii"),
    (np.ma.masked_all((96, 160)), "got a masked array: fill"),
    (np.full((96, 160), -2.0), "got -2: of signed radii give np.abs"),
]


@pytest.mark.parametrize(("radius", "said"), BAD)
def test_what_is_no_map_is_refused(deblur: Deblurrer, radius: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        deblur(blurred(), defocus=radius)


def test_no_size_at_all() -> None:
    with pytest.raises(InputError, match="got -1"):
        checked_map(np.full((2, 3), -1), Size(3, 2))


@pytest.mark.parametrize("name", ["sftnet-lite", "jdrl-unet-lite", "apl-lite"])
def test_a_model_that_takes_none_says_which_do(name: str) -> None:
    with allfocus.load(name, **EXACT) as deblur, pytest.raises(UsageError) as told:
        deblur(blurred(), defocus=half(4.0))
    assert f"{name} takes no map from outside" in str(told.value)
    assert "didanet-lite" in str(told.value)


def test_a_file_has_its_phases_beside_it(deblur: Deblurrer) -> None:
    picture = blurred()
    with allfocus.load(packaged_onnx(NANO), **EXACT) as by_path:
        found = by_path(picture, defocus=half(3)).image
    assert np.array_equal(found, deblur(picture, defocus=half(3)).image)


def test_a_file_without_its_phases_says_where_they_come_from(tiny: Exported) -> None:
    with (
        allfocus.load(tiny.frame, **EXACT) as deblur,
        pytest.raises(UsageError, match=r"no files of its phases beside it.*--phase all` makes"),
    ):
        deblur(blurred(), defocus=half(4.0))


def test_which_models_can() -> None:
    able = {name for name in MODELS if guidable(name)}
    assert {"didanet", "didanet-lite", "didanet-nano"} < able
    assert not {"sftnet", "apl", "jdrl-unet", "dualpixel-map", "no such model"} & able


def test_codes_of_a_map_file_are_no_radii() -> None:
    codes = np.full((4, 6), 5 * 256, np.uint16)  # as `--map` writes 5 pixels
    with pytest.raises(InputError, match=r"reaches 1280 pixels.*read from a map file by 256"):
        checked_map(codes, Size(6, 4))
    assert (checked_map(codes / 256, Size(6, 4)) == 5).all()
