from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from allfocus.train.data import find, make_samples
from allfocus.train.models.base import Deblurrer
from allfocus.train.synthetic import Recipe
from allfocus.train.validate import validate


class Constant(Deblurrer):
    """Returns its input, or mid grey, and a map of zeros."""

    multiple, halo, max_radius = 1, 0, 8.0

    def __init__(self, grey: bool) -> None:
        super().__init__()
        self.grey = grey

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        out = torch.full_like(image, 0.5) if self.grey else image
        return out, torch.zeros_like(image[:, :1])


@pytest.fixture
def samples(tmp_path: Path):  # type: ignore[no-untyped-def]
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    return make_samples(find(tmp_path), 32, 0, Recipe())


def test_without_true_maps_there_is_neither_their_error_nor_a_radius(tmp_path: Path) -> None:
    for name in ("blurry", "sharp"):
        (tmp_path / name).mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
        assert cv2.imwrite(str(tmp_path / name / "a.png"), pixels)
    pairs = make_samples(find(tmp_path), 32, 0, Recipe())
    report = validate(Constant(grey=False), pairs, 2)
    assert (report.map_mae, report.bands) == (None, None)
    assert "MAE" not in report.line()


def test_a_net_that_does_nothing_gains_nothing(samples) -> None:  # type: ignore[no-untyped-def]
    report = validate(Constant(grey=False), samples, 6)
    assert report.whole.after == pytest.approx(report.whole.before, abs=1e-3)
    assert report.bands
    assert sum(band.share for band in report.bands) == pytest.approx(1)
    assert 0 < report.map_mae < 1


def test_a_net_that_paints_grey_loses(samples) -> None:  # type: ignore[no-untyped-def]
    report = validate(Constant(grey=True), samples, 6)
    assert report.whole.before is not None
    assert report.whole.after is not None
    assert report.whole.after < report.whole.before
    assert report.bands
    changed = report.bands[0].changed
    assert changed is not None
    assert changed < 20
