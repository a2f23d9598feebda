"""The matrices, from the standards' own figures."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from allfocus.runtime.spec import Matrix, Range
from allfocus.runtime.ycbcr import black, from_rgb


@pytest.mark.parametrize("limits", get_args(Range))
@pytest.mark.parametrize("matrix", get_args(Matrix))
@pytest.mark.parametrize("bits", [8, 10])
def test_white_is_luma_alone_and_the_primaries_span_chroma(
    matrix: Matrix, limits: Range, bits: int
) -> None:
    rows, zero = from_rgb(matrix, limits, bits), black(limits, bits)
    scale = 1 << (bits - 8)
    white = zero + rows.sum(axis=1)
    top, span = (235 * scale, 224 * scale) if limits == "limited" else (2**bits - 1,) * 2
    np.testing.assert_allclose(white, [top, 128 * scale, 128 * scale], atol=1e-9)
    assert rows[1, 2] == pytest.approx(span / 2)  # blue
    assert rows[2, 0] == pytest.approx(span / 2)  # red


def test_the_weights_of_bt_2020() -> None:
    """ITU-R BT.2020, table 4."""
    found = from_rgb("bt2020", "full", 8)[0] / 255
    np.testing.assert_allclose(found, [0.2627, 0.6780, 0.0593], atol=1e-9)
