from __future__ import annotations

import math

import numpy as np
import pytest

from allfocus.train.metrics import psnr


def test_an_error_of_a_tenth_is_twenty_decibels() -> None:
    assert psnr(np.full((4, 4), 0.6), np.full((4, 4), 0.5)) == pytest.approx(20)


def test_equal_pictures_are_infinitely_close() -> None:
    assert psnr(np.ones((2, 2)), np.ones((2, 2))) == math.inf


def test_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        psnr(np.ones((2, 2)), np.ones((2, 3)))
