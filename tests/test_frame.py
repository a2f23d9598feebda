"""What a frame may be, and that grey and alpha pass through three channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from allfocus.runtime.errors import InputError
from allfocus.runtime.frame import checked, from_color, on_device, peak, to_color


class Tensor:
    """Like one of PyTorch's, on a device of that number for DLPack, or on one that it has not."""

    def __init__(self, device: int | None) -> None:
        self.device = device

    def __dlpack_device__(self) -> tuple[int, int]:
        if self.device is None:
            raise ValueError("Unknown device type meta for Dlpack")
        return self.device, 0


BAD: list[tuple[Any, str]] = [
    ([[1, 2], [3, 4]], r"got list.*np\.asarray"),
    (None, "got None, as cv2.imread gives where it cannot read a file"),
    ("photo.jpg", r"got the path 'photo\.jpg': read it first, cv2\.imread"),
    (b"photo", "got bytes: make it an array"),
    (np.zeros((3, 40, 60), np.uint8), r"channels first.*transpose\(1, 2, 0\)"),
    (np.zeros((1, 40, 60), np.uint8), "channels first"),
    (np.zeros((40, 60, 2), np.uint8), "1, 3 or 4 channels, not 2"),
    (np.zeros((40, 60, 5), np.uint8), "1, 3 or 4 channels, not 5"),
    (np.zeros((1, 40, 60, 3), np.uint8), "one frame at a time"),
    (np.zeros(40, np.uint8), "two or three dimensions"),
    (np.array(3, np.uint8), "two or three dimensions"),
    (np.zeros((0, 60, 3), np.uint8), "empty"),
    (np.zeros((40, 0), np.uint8), "empty"),
    (np.zeros((40, 60, 0), np.uint8), "empty"),
    (np.zeros((4, 6, 3)), r"got float64 \[4, 6, 3\].*astype\(np\.float32\)"),
    (np.zeros((4, 6, 3), ">u2"), r"bytes are in the other order.*astype\(np\.uint16\)"),
    (Tensor(1), r"got Tensor: a tensor on the CPU is an array by its \.numpy\(\)"),
    (Tensor(None), r"got Tensor: a tensor on the CPU"),
    (np.zeros((4, 6, 3), np.float16), r"astype\(np\.float32\)"),
    (np.zeros((4, 6, 3), np.int64), r"got int64.*astype\(np\.uint8\)"),
    (np.zeros((4, 6, 3), np.int8), "got int8"),
    (np.zeros((4, 6), bool), r"mask.*\* 255"),
    (np.zeros((4, 6, 3), ">u2"), "got >u2"),
    (np.zeros((4, 6, 3), object), "got object"),
    (np.full((4, 6, 3), np.nan, np.float32), "NaN"),
    (np.full((4, 6, 3), np.inf, np.float32), r"to inf, expected \[0, 1\]"),
    (np.full((4, 6, 3), 200, np.float32), "from 200 to 200.*divide"),
    (np.full((4, 6, 3), -0.1, np.float32), "from -0.1"),
]


@pytest.mark.parametrize(("frame", "says"), BAD)
@pytest.mark.parametrize("io", ["float", "frame"])
def test_a_bad_frame_is_refused_with_its_reason(frame: Any, says: str, io: Any) -> None:
    if io == "frame" and isinstance(frame, np.ndarray) and frame.dtype == np.float32:
        says = "--io float"
    with pytest.raises(InputError, match=says):
        checked(frame, io)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_ends_of_the_float_range_are_allowed(value: float) -> None:
    assert checked(np.full((2, 2, 3), value, np.float32), "float").shape == (2, 2, 3)


def test_a_frame_of_three_rows_is_not_taken_for_channels_first() -> None:
    assert checked(np.zeros((3, 60, 3), np.uint8), "frame").shape == (3, 60, 3)


def test_subclasses_become_plain_arrays() -> None:
    assert type(checked(np.zeros((4, 6), np.uint8).view(np.recarray), "frame")) is np.ndarray


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
def test_white(dtype: type, white: int) -> None:
    assert peak(np.dtype(dtype)) == white


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([0, 1, 3, 4]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    seed=st.integers(0, 99),
)
def test_an_unchanged_image_comes_back_as_the_frame(
    height: int, width: int, channels: int, dtype: type, seed: int
) -> None:
    shape = (height, width, channels)[: 3 if channels else 2]
    values = np.random.default_rng(seed).random(shape) * peak(np.dtype(dtype))
    frame: NDArray[Any] = values.astype(dtype)
    color = to_color(frame)
    assert color.shape == (height, width, 3)
    assert color.flags.c_contiguous
    back = from_color(color.copy(), frame)
    assert back.dtype == frame.dtype
    assert back.shape == frame.shape
    np.testing.assert_allclose(back, frame, rtol=1e-6)


def test_grey_is_the_mean_of_the_channels() -> None:
    color = np.array([[[10, 20, 33], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(from_color(color, np.zeros((1, 2), np.uint8)), [[21, 255]])


def test_host_arrays_are_not_on_a_device() -> None:
    assert not on_device(np.zeros((2, 2)))
    assert not on_device([1, 2])
    assert not on_device(None)


def test_dlpack_says_where_a_frame_is() -> None:
    class Frame:
        def __init__(self, device: int) -> None:
            self.device = device

        def __dlpack_device__(self) -> tuple[int, int]:
            return (self.device, 0)

    assert [on_device(Frame(kind)) for kind in (1, 2, 13)] == [False, True, True]
