"""Failures made on purpose: they are where they are said to be, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allfocus.benchmarks import failures
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.load import load
from allfocus.train.evaluation_scenes import load_photo

PHOTO = load_photo("astronaut")[60:188, 150:342].astype(np.float32) / np.float32(255)
SHAPE = (128, 192)


def test_an_outline_covers_its_share_and_depends_on_its_seed() -> None:
    one = failures.outline(SHAPE, 1)
    assert one.shape == SHAPE
    assert one.mean() == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(one, failures.outline(SHAPE, 1))
    assert (one != failures.outline(SHAPE, 2)).any()


def test_ringing_is_at_edges_and_has_its_period() -> None:
    step = np.zeros((64, 96, 3), np.float32)
    step[:, 48:] = 1
    change = (failures.ringing(step) - step)[32, :, 0]
    assert np.abs(change[:16]).max() < 1e-3
    beside = change[50:64]
    assert beside.max() > 0.02 > -0.02 > beside.min()
    np.testing.assert_allclose(failures.ringing(step * 0 + 0.5), 0.5, atol=1e-5)


def test_painted_texture_has_its_contrast() -> None:
    flat = np.full_like(PHOTO, 0.5)
    drawn = failures.painted(flat, PHOTO) - flat
    assert drawn.std() == pytest.approx(failures.CONTRAST, rel=0.15)


def test_what_is_spoilt_is_told_from_what_is_not() -> None:
    where = failures.outline(SHAPE, 4)
    found = failures.spoilt(PHOTO, failures.ringing(PHOTO), where)
    assert not (found.failed & found.good).any()
    assert found.failed[~where].mean() < 0.1
    np.testing.assert_allclose(found.image[found.good], PHOTO[found.good], atol=0.03)
    assert np.abs(found.image - PHOTO)[found.failed].mean() > failures._VISIBLE / 2
    np.testing.assert_array_equal(np.rint(255 * found.image), 255 * found.image)


def test_damaged_weights_run_and_are_refused(tmp_path: Path) -> None:
    path = failures.damaged(packaged_onnx("didanet-lite"), tmp_path)
    with pytest.raises(ArtefactError, match="whose answer is known"):
        load(path)
    frame = np.rint(255 * PHOTO).astype(np.uint8)
    with load(path, canary=False) as broken, load("didanet-lite") as whole:
        assert (broken(frame).image != whole(frame).image).any()
