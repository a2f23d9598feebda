"""The truth warped onto the output: a shift is undone, a wrong picture is not made right."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from allfocus.benchmarks.common import PHOTO
from allfocus.train.flow_truth import Picture, deformed
from allfocus.train.metrics import psnr


@pytest.fixture(scope="module")
def photo() -> Picture:
    image = cv2.imread(str(PHOTO))
    assert image is not None
    return (image[100:228, 100:260, ::-1] / 255).astype(np.float32)


def test_a_shifted_truth_is_brought_back(photo: Picture) -> None:
    truth, output = photo[8:-8, 8:-8], photo[10:-6, 5:-11]  # 2 pixels down, 3 to the left
    apart = psnr(output, truth)
    inner = (slice(8, -8),) * 2  # what came in from beyond the border cannot be known
    back = deformed(truth, output)
    assert back.shape == truth.shape
    assert psnr(output[inner], back[inner]) > 40
    assert psnr(output, back) > apart + 8


def test_an_aligned_truth_stays(photo: Picture) -> None:
    assert psnr(deformed(photo, photo), photo) > 50


def test_the_wrong_colour_is_not_forgiven(photo: Picture) -> None:
    paler = photo * np.float32(0.5)
    assert abs(psnr(paler, deformed(photo, paler)) - psnr(paler, photo)) < 2
