"""The range that 8 bits span of a tensor's values, and the steps of a weight's channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from allfocus.export.histogram import METHODS, Histogram, Method, channel_scales, rounded

VALUES = arrays(np.float32, st.integers(1, 40), elements=st.floats(-64, 64, width=32))


def filled(*parts: NDArray[np.float32]) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_every_value_is_counted_whatever_comes_later(parts: list[NDArray[np.float32]]) -> None:
    histogram = filled(*parts)
    values = np.concatenate(parts)
    assert histogram.counts.sum() == len(values)
    assert histogram.range("minmax") == (
        pytest.approx((min(0, values.min()), max(0, values.max()))) if values.any() else (0.0, 1.0)
    )


@given(VALUES, st.sampled_from(METHODS))
def test_a_range_holds_zero_and_lies_within_the_values(
    values: NDArray[np.float32], method: Method
) -> None:
    low, high = filled(values).range(method)
    assert low <= 0 <= high
    assert low < high
    if values.any():
        assert low >= min(0, float(values.min()))
        assert high <= max(0, float(values.max()))


@given(VALUES)
def test_the_least_squares_are_no_worse_than_all_values(values: NDArray[np.float32]) -> None:
    histogram = filled(values)
    centres = np.repeat(histogram._centres, histogram.counts.astype(int))

    def error(method: Method) -> float:
        return float(np.mean((centres - rounded(centres, *histogram.range(method))) ** 2))

    assert error("mse") <= error("minmax") + 1e-9


def test_one_value_in_a_million_is_cut_off() -> None:
    values = np.random.default_rng(0).normal(0, 1, 1_000_000).astype(np.float32)
    values[0] = 1000
    histogram = filled(values)
    assert histogram.range("minmax")[1] == 1000
    assert histogram.range("percentile")[1] < 6
    assert histogram.range("mse")[1] < 600  # its square counts against all the others


def test_zero_is_held_exactly() -> None:
    assert rounded(np.zeros(1), -0.37, 1.9)[0] == 0


def test_each_channel_has_its_own_step() -> None:
    weight = np.stack([np.full((1, 3, 3), 127.0), np.full((1, 3, 3), 1.27)]).astype(np.float32)
    np.testing.assert_allclose(channel_scales(weight), [1.0, 0.01], rtol=1e-5)


def test_a_channel_of_zeros_has_a_step_all_the_same() -> None:
    assert channel_scales(np.zeros((2, 1, 3, 3), np.float32)).min() > 0
