from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from allfocus.train.data import batches, find, make_samples
from allfocus.train.metrics import psnr
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


def test_bands_are_the_pixels_of_their_radius(samples) -> None:  # type: ignore[no-untyped-def]
    report = validate(Constant(grey=True), samples, 5)
    (batch, *more) = batches(samples, start=0, stop=5, batch=1, max_radius=8, workers=0)
    radius = torch.stack([b.defocus[0, 0] for b in (batch, *more)]).numpy() * 8
    blurry, sharp = (
        torch.stack([getattr(b, name)[0] for b in (batch, *more)]).permute(0, 2, 3, 1).numpy()
        for name in ("blurry", "sharp")
    )
    grey = np.full_like(sharp, 128 / 255)
    assert report.bands
    for band in report.bands:
        inside = (radius >= band.low) & (radius < (band.high or np.inf))
        assert band.share == pytest.approx(inside.mean())
        pairs = ((blurry, sharp), (grey, sharp), (grey, blurry))
        for found, (image, truth) in zip(
            (band.before, band.after, band.changed), pairs, strict=True
        ):
            if not inside.any():
                assert found is None
                continue
            assert found == pytest.approx(min(99, psnr(image[inside], truth[inside])), abs=1e-4)


def test_more_crops_take_no_more_memory(samples, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def peak(crops: int) -> int:
        tracemalloc.start()
        try:
            validate(Constant(grey=False), samples, crops)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    first = samples[0]  # as often as it is asked for: drawing takes memory too
    monkeypatch.setattr(type(samples), "__getitem__", lambda *_: first)
    peak(1)
    assert peak(40) < 1.5 * peak(2)


def test_a_truth_that_is_displaced_is_deformed_first(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    sharp = cv2.resize(coarse, (96, 96), interpolation=cv2.INTER_CUBIC)
    for name, picture in (("blurry", np.roll(sharp, 2, axis=1)), ("sharp", sharp)):
        (tmp_path / name).mkdir()
        assert cv2.imwrite(str(tmp_path / name / "a.png"), picture)
    pairs = make_samples(find(tmp_path), 64, 0, Recipe())
    plain, deformed = (validate(Constant(grey=False), pairs, 2, deform=d) for d in (False, True))
    assert plain.whole.after is not None
    assert deformed.whole.after is not None
    assert deformed.whole.after > plain.whole.after + 6
    assert "deformed" in deformed.line()
    assert "deformed" not in plain.line()
