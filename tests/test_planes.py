from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeCuda
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.cudart import Device, Stream
from allfocus.runtime.device_array import DeviceView
from allfocus.runtime.errors import InputError
from allfocus.runtime.form import form_of, pad
from allfocus.runtime.layout import frame_layout
from allfocus.runtime.planes import (
    copy,
    frame_planes,
    image_planes,
    reflect,
)
from allfocus.runtime.spec import IOS, YUV, Io, Size


def seen(array: np.ndarray[Any, Any], pointer: int) -> DeviceView:
    """`array` as a frame whose first byte lies at `pointer`."""
    return DeviceView(
        pointer=pointer,
        shape=array.shape,
        strides=array.strides,
        dtype=array.dtype,
        keeper=None,
    )


def picture(io: Io, size: Size) -> np.ndarray[Any, Any]:
    wanted = frame_layout("image", io)
    return np.random.default_rng(3).integers(0, 256, wanted.shape(size)).astype(wanted.dtype)


def fitting(io: Io, size: Size) -> Size:
    return size.padded(2) if io in YUV else size


SIZES = st.builds(Size, st.integers(1, 9), st.integers(1, 9))


@given(st.sampled_from(IOS), SIZES, st.integers(0, 12), st.integers(0, 12))
def test_padding_is_that_of_the_host(io: Io, size: Size, right: int, below: int) -> None:
    size = fitting(io, size)
    padded = fitting(io, Size(size.width + right, size.height + below))
    cuda = FakeCuda()
    stream = Stream(Device(cuda, 0))
    source = picture(io, size)
    pointer = cuda.put(np.zeros_like(picture(io, padded)))
    planes = frame_planes(io, seen(source, cuda.put(source)))
    for target, plane in zip(image_planes(io, pointer, padded), planes, strict=True):
        copy(stream, target, plane)
        reflect(stream, target, plane.size)
    stream.synchronize()
    wanted = frame_layout("image", io)
    result = cuda.get(pointer, wanted.shape(padded), wanted.dtype)[0]
    if io == "float":
        expected = pad(source[0].transpose(1, 2, 0), padded).transpose(2, 0, 1)
    else:
        expected = form_of("image", io).grown(source[0], padded)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("io", IOS)
def test_part_of_a_larger_picture_is_read_in_place(io: Io) -> None:
    """Of luma and chroma, as decoders align their rows: all of them, in part."""
    whole = picture(io, Size(8, 6))[0]
    rows, columns = slice(1, 5), slice(2, 7)
    cuts: dict[Io, Any] = {
        "float": (slice(None), rows, columns),
        **dict.fromkeys(YUV, (slice(0, 6), slice(0, 6))),
    }
    part = whole[cuts.get(io, (rows, columns))]
    cuda = FakeCuda()
    stream = Stream(Device(cuda, 0))
    offset = part.ctypes.data - whole.ctypes.data
    planes = frame_planes(io, seen(part, cuda.put(whole) + offset))
    size = Size(6, 4) if io in YUV else Size(5, 4)
    pointer = cuda.put(np.zeros_like(picture(io, size)))
    for target, plane in zip(image_planes(io, pointer, size), planes, strict=True):
        copy(stream, target, plane)
    stream.synchronize()
    assert np.array_equal(cuda.get(pointer, part.shape, part.dtype), part)


def test_a_leading_one_is_taken() -> None:
    array = picture("float", Size(4, 2))
    assert frame_planes("float", seen(array, 0)) == frame_planes("float", seen(array[0], 0))


def test_axes_of_one_element_may_have_any_stride() -> None:
    odd = DeviceView(
        pointer=0, shape=(1, 1, 3), strides=(7, 999, 1), dtype=np.dtype(np.uint8), keeper=None
    )
    assert frame_planes("frame", odd)[0].size == Size(1, 1)


U8, U16, F32 = np.uint8, np.uint16, np.float32
REFUSED: list[tuple[Io, np.ndarray[Any, Any]]] = [
    ("frame", np.zeros((4, 4), U8)),
    ("frame", np.zeros((4, 4, 4), U8)),
    ("frame", np.zeros((3, 4, 4), U8)),
    ("frame", np.zeros((2, 4, 4, 3), U8)),
    ("frame", np.zeros((0, 4, 3), U8)),
    ("frame", np.zeros((4, 4, 3), F32)),
    ("frame16", np.zeros((4, 4, 3), U8)),
    ("frame16", np.zeros((4, 4), U16)),
    ("float", np.zeros((4, 4, 3), F32)),
    ("float", np.zeros((3, 4, 4), U8)),
    ("float", np.zeros((3, 4, 4), np.float64)),
]
GAPS: list[tuple[Io, np.ndarray[Any, Any]]] = [
    ("frame", np.zeros((4, 4, 3), U8)[:, ::2]),
    ("frame", np.zeros((4, 4, 3), U8)[:, :, ::-1]),
    ("frame", np.zeros((4, 4, 3), U8)[::-1]),
    ("frame", np.zeros((3, 4, 4), U8).transpose(1, 2, 0)),
    ("frame", np.broadcast_to(np.zeros((1, 4, 3), U8), (4, 4, 3))),
    ("frame16", np.zeros((4, 4, 6), U16)[:, :, ::2]),
    ("nv12", np.zeros((6, 8), U8)[:, ::2]),
    ("p010", np.zeros((8, 6), U16).T[:6]),
    ("float", np.zeros((4, 4, 3), F32).transpose(2, 0, 1)),
    ("float", np.zeros((3, 4, 8), F32)[:, :, ::2]),
]


@pytest.mark.parametrize(("io", "array"), REFUSED)
def test_other_types_and_layouts_are_refused(io: Io, array: np.ndarray[Any, Any]) -> None:
    kinds = {"frame": r"uint8 \[H, W, 3\]", "frame16": r"uint16 \[H, W, 3\]"}
    expected = kinds.get(io, r"float32 \[3, H, W\]")
    with pytest.raises(InputError, match=f"takes {expected}, got {array.dtype}.*--io"):
        frame_planes(io, seen(array, 0))


@pytest.mark.parametrize(("io", "array"), GAPS)
def test_gaps_within_a_row_are_refused(io: Io, array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InputError, match="make a copy of it"):
        frame_planes(io, seen(array, 0))
