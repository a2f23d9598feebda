"""Changes brought into luma and chroma, against the matrices written out in the standards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.streams.yuv import FORMATS, changed, matrix


def test_the_matrix_of_bt_601_is_that_of_jpeg() -> None:
    """JFIF 1.02: full range, as everybody has them by heart."""
    expected = [
        [0.299, 0.587, 0.114],
        [-0.168736, -0.331264, 0.5],
        [0.5, -0.418688, -0.081312],
    ]
    np.testing.assert_allclose(matrix(5, True, 8) / 255, expected, atol=1e-6)


def test_the_matrix_of_bt_709() -> None:
    """ITU-R BT.709, table 3.4, in the range of studios: white is 219 steps above black."""
    found = matrix(1, False, 8)
    np.testing.assert_allclose(found.sum(axis=1), [219, 0, 0], atol=1e-9)
    np.testing.assert_allclose(found[0] / 219, [0.2126, 0.7152, 0.0722], atol=1e-9)
    assert found[1, 2] == pytest.approx(112)  # blue: 224 steps from end to end
    np.testing.assert_allclose(matrix(1, False, 10), 4 * found)


@pytest.mark.parametrize("name", FORMATS)
@given(width=st.integers(1, 37), height=st.integers(1, 21), seed=st.integers(0, 99))
def test_no_change_is_no_change_and_a_grey_one_is_of_the_luma(
    name: str, width: int, height: int, seed: int
) -> None:
    av = pytest.importorskip("av", reason="frames of video are PyAV's")
    rng = np.random.default_rng(seed)
    bits = FORMATS[name].bits
    kind = np.dtype(np.uint8 if bits == 8 else "<u2")
    frame = av.VideoFrame(width, height, name)
    for plane in frame.planes:
        values = rng.integers(64, 192, plane.buffer_size // kind.itemsize) << (bits - 8)
        np.frombuffer(plane, kind)[...] = values
    before = rng.integers(0, 200, (height, width, 3), np.uint8)
    same, brighter = changed(frame, before, before), changed(frame, before, before + 20)
    step = (20 if name.startswith("yuvj") else 20 * 219 / 255) * 2 ** (bits - 8)
    for index, planes in enumerate(zip(frame.planes, same.planes, brighter.planes, strict=True)):
        old, kept, lit = (
            np.frombuffer(p, kind).reshape(-1, p.line_size // kind.itemsize)[:, : p.width]
            for p in planes
        )
        np.testing.assert_array_equal(kept, old)
        expected = old + (step if index == 0 else 0)
        assert np.abs(lit - expected).max() <= 0.51 + 0.02 * 2 ** (bits - 8)
