"""Photos with depth: read, cut into layers, blurred by it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from allfocus.runtime.errors import InputError
from allfocus.train.data import find, make_samples
from allfocus.train.disparity import draw_layers, layers_of, read_disparity, span_of
from allfocus.train.psf import Aperture
from allfocus.train.render import render
from allfocus.train.synthetic import IN_FOCUS, Recipe

PICTURE = np.random.default_rng(0).random((48, 48, 3), dtype=np.float32)
RAMP = np.tile(np.linspace(0, 20, 48, dtype=np.float32), (48, 1))


def test_in_focus_the_layers_are_the_picture() -> None:
    blurry, sharp, radius = render(layers_of(PICTURE, RAMP, 5.0, 0.0), Aperture())
    np.testing.assert_array_equal(blurry, PICTURE)
    np.testing.assert_array_equal(sharp, PICTURE)
    assert radius.max() == 0


def test_blur_follows_the_distance_from_the_focus() -> None:
    layers = layers_of(PICTURE, RAMP, 10.0, 0.5)
    blurry, sharp, radius = render(layers, Aperture())
    np.testing.assert_array_equal(sharp, PICTURE)
    np.testing.assert_allclose(radius, np.abs(RAMP - 10) * 0.5, atol=0.26)
    assert layers[0].radius[0, 0] > 0 > layers[-1].radius[0, 0]  # far ones first, behind the focus
    error = np.abs(blurry - PICTURE).mean(axis=(0, 2))
    assert error[23:25].mean() < 0.3 * error[:4].mean()


def test_no_layer_is_where_focus_ends() -> None:
    """A disc of half a pixel blurs nothing, and would not count as in focus."""
    for layer in layers_of(PICTURE, RAMP, 10.0, 0.5):
        radius = abs(float(layer.radius[0, 0]))
        assert radius % 0.5 == 0.25
        assert (radius < IN_FOCUS) == (len(np.flatnonzero(Aperture().kernel(radius))) == 1)


def test_nothing_shows_through_between_the_layers() -> None:
    grey = np.full_like(PICTURE, 0.5)
    blurry, _, _ = render(layers_of(grey, RAMP, 10.0, 0.5), Aperture())
    np.testing.assert_allclose(blurry, grey, atol=1e-5)


def test_unknown_values_are_their_neighbours(tmp_path: Path) -> None:
    plane = RAMP.copy()
    plane[:, 10:20] = np.inf
    np.save(tmp_path / "a.npy", plane)
    filled = read_disparity(tmp_path / "a.npy")
    np.testing.assert_array_equal(filled[:, 11], plane[:, 9])
    np.testing.assert_array_equal(filled[:, 18], plane[:, 20])


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 3)), np.full((4, 4), np.nan)])
def test_what_is_no_disparity_is_refused(tmp_path: Path, wrong: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", wrong)
    with pytest.raises(InputError, match="disparity"):
        read_disparity(tmp_path / "a.npy")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01", b"PK\x03\x04 no archive", b"words"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy: not a disparity map that can be read"):
        read_disparity(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", [".npy", ".pfm"])
def test_a_folder_of_photos_with_disparity_trains(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    plane = np.random.default_rng(1).random((90, 120), dtype=np.float32)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    if suffix == ".npy":
        np.save(tmp_path / "a.npy", plane)
    else:
        cv2.imwrite(str(tmp_path / "a.pfm"), plane)
    samples = make_samples(find(tmp_path), 32, 0, Recipe(max_radius=3, sharp_share=1.0))
    radii = [samples[index].radius for index in range(16)]
    assert 0 < sum(radius.max() > 0 for radius in radii) < 16  # all else is drawn in focus


def test_disparity_of_another_size_is_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((90, 120, 3), np.uint8))
    np.save(tmp_path / "a.npy", RAMP)
    with pytest.raises(InputError, match=r"a\.npy.*size"):
        make_samples(find(tmp_path), 32, 0, Recipe())


def test_errors_of_the_disparity_are_no_depth() -> None:
    """A crop of one wall, in a photo of much depth: its radii differ no more than the wall does."""
    rng = np.random.default_rng(3)
    wall = (10 + 0.1 * rng.standard_normal((48, 48))).astype(np.float32)
    layers = draw_layers(rng, PICTURE, wall, 8.0, span_of(np.concatenate((RAMP, wall))))
    radii = [float(layer.radius[0, 0]) for layer in layers]
    assert max(radii) - min(radii) < 4
    layers = draw_layers(rng, PICTURE, RAMP, 8.0, span_of(RAMP))
    assert max(abs(float(layer.radius[0, 0])) for layer in layers) == 7.75  # half a step less
