"""Each figure against scikit-image, or against its definition computed the slow way."""

from __future__ import annotations

import math

import numpy as np
import pytest

from allfocus.runtime.errors import InputError
from allfocus.train.metrics import FMeasure, Values, mae, mse, psnr, ssim

RNG = np.random.default_rng(0)
TRUTH = RNG.random((23, 31, 3)).astype(np.float32)
IMAGE = np.clip(TRUTH + RNG.normal(0, 0.1, TRUTH.shape), 0, 1).astype(np.float32)


def test_psnr_of_a_known_error() -> None:
    truth = np.zeros((4, 4, 3), np.float32)
    assert psnr(truth + np.float32(0.1), truth) == pytest.approx(20.0, abs=1e-5)


def test_equal_pictures_have_no_error() -> None:
    assert psnr(TRUTH, TRUTH) == math.inf
    assert (mae(TRUTH, TRUTH), mse(TRUTH, TRUTH)) == (0, 0)
    assert ssim(TRUTH, TRUTH) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("measure", [psnr, ssim, mae, mse])
def test_different_shapes_are_refused(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match="shapes differ"):
        measure(TRUTH, TRUTH[:-1])


def test_psnr_and_mse_are_those_of_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    first, second = IMAGE.astype(np.float64), TRUTH.astype(np.float64)
    expected = metrics.peak_signal_noise_ratio(second, first, data_range=1)
    assert psnr(IMAGE, TRUTH) == pytest.approx(expected, abs=1e-9)
    assert mse(IMAGE, TRUTH) == pytest.approx(metrics.mean_squared_error(first, second), abs=1e-12)
    assert mae(IMAGE, TRUTH) == pytest.approx(float(np.abs(first - second).mean()), abs=1e-12)


@pytest.mark.parametrize("size", [(11, 11), (23, 31), (64, 12)])
def test_ssim_is_that_of_scikit_image(size: tuple[int, int]) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    rng = np.random.default_rng(size[0])
    truth = rng.random((*size, 3))
    image = np.clip(0.8 * truth + rng.normal(0, 0.1, truth.shape), 0, 1)
    expected = metrics.structural_similarity(
        image,
        truth,
        data_range=1,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(image, truth) == pytest.approx(expected, abs=1e-10)


def test_ssim_needs_a_window() -> None:
    with pytest.raises(InputError, match="at least 11x11 pixels, got 31x10"):
        ssim(TRUTH[:10], TRUTH[:10])


def slow_f_max(scores: list[Values], truths: list[np.ndarray]) -> float:
    """The definition, threshold by threshold."""
    levels = np.concatenate([np.rint(s * 255).ravel() for s in scores])
    true = np.concatenate([t.ravel() for t in truths])
    best = 0.0
    for threshold in range(255):
        found = levels > threshold
        if (found & true).any():
            precision = (found & true).sum() / found.sum()
            recall = (found & true).sum() / true.sum()
            best = max(best, 1.3 * precision * recall / (0.3 * precision + recall))
    return best


def test_f_max_is_its_definition_over_all_pictures() -> None:
    rng = np.random.default_rng(1)
    truths = [rng.random((9, 7)) < share for share in (0.3, 0.0, 0.9)]
    scores = [np.clip(0.4 * t + rng.random(t.shape) * 0.6, 0, 1) for t in truths]
    measure = FMeasure()
    for score, truth in zip(scores, truths, strict=True):
        measure.add(score, truth)
    value = measure.maximum()
    assert value == pytest.approx(slow_f_max(scores, truths), abs=1e-12)
    assert value is not None
    assert 0.5 < value < 1


def test_f_max_at_its_ends() -> None:
    truth = np.arange(12).reshape(3, 4) < 3
    perfect, blind, empty = FMeasure(), FMeasure(), FMeasure()
    perfect.add(truth.astype(np.float32), truth)
    blind.add(np.zeros(truth.shape), truth)
    empty.add(np.ones(truth.shape), np.zeros(truth.shape, bool))
    assert perfect.maximum() == pytest.approx(1)
    assert blind.maximum() == 0
    assert empty.maximum() is None
    everything = FMeasure()
    everything.add(np.ones(truth.shape), truth)  # P = 1/4, R = 1
    assert everything.maximum() == pytest.approx(1.3 * 0.25 / (0.3 * 0.25 + 1))
    with pytest.raises(ValueError, match="shapes differ"):
        everything.add(np.ones((2, 2)), truth)
