"""Shapes and types of a graph's tensors by their names."""

from __future__ import annotations

import numpy as np
import pytest

from allfocus.runtime.layout import as_frame, as_tensor, frame_layout, layout, multiple_in
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import IOS, Io, Size

SIZE = Size(6, 4)


@pytest.mark.parametrize(
    ("name", "io", "shape", "dtype"),
    [
        ("image", "frame", (1, 4, 6, 3), np.uint8),
        ("image", "float", (1, 3, 4, 6), np.float32),
        ("sharp", "frame16", (1, 4, 6, 6), np.uint8),
        ("sharp", "nv12", (1, 6, 6), np.uint8),
        ("image", "p010", (1, 6, 6, 2), np.uint8),
        ("focus", "p010", (1, 4, 6), np.float32),
        ("defocus", "frame", (1, 4, 6), np.float32),
        ("focus", "float", (1, 1, 4, 6), np.float32),
        ("context", "frame", (1, 5, 1, 1), np.float32),
        ("context", "float", (1, 5, 1, 1), np.float32),
    ],
)
def test_height_comes_before_width(name: str, io: Io, shape: tuple[int, ...], dtype: type) -> None:
    found = layout(name, io)
    assert (found.shape(SIZE, 5), found.dtype) == (shape, np.dtype(dtype))
    assert found.fits(shape)
    assert found.size(shape) == (None if name == "context" else SIZE)


@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("name", KINDS)
def test_other_ranks_and_channels_do_not_fit(name: str, io: Io) -> None:
    found = layout(name, io)
    shape = found.shape(SIZE, 5)
    assert not found.fits(shape[1:])
    assert not found.fits((2, *shape[1:]))
    assert not found.fits((*shape, 1))


@pytest.mark.parametrize(("rows", "columns"), [(7, 6), (8, 6), (6, 5)])
def test_luma_and_chroma_are_of_even_sizes(rows: int, columns: int) -> None:
    assert layout("image", "nv12").fits((1, 6, 6))
    assert not layout("image", "nv12").fits((1, rows, columns))
    assert not layout("image", "p010").fits((1, rows, columns, 2))


@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("name", ["image", "defocus"])
def test_callers_see_the_same_memory(name: str, io: Io) -> None:
    wanted = layout(name, io)
    tensor = np.arange(np.prod(wanted.shape(SIZE)), dtype=wanted.dtype).reshape(wanted.shape(SIZE))
    frame = as_frame(name, tensor, io)
    assert (frame.shape, frame.dtype) == (
        frame_layout(name, io).shape(SIZE),
        frame_layout(name, io).dtype,
    )
    assert np.shares_memory(frame, tensor)
    np.testing.assert_array_equal(as_tensor(name, frame, io), tensor)


def test_low_bytes_come_first() -> None:
    tensor = np.array([[[[1, 2, 3, 4, 5, 6]]]], np.uint8)
    assert as_frame("image", tensor, "frame16").tolist() == [[[[0x0201, 0x0403, 0x0605]]]]


def test_four_pixels_that_share_a_sample_make_sizes_even() -> None:
    assert [multiple_in("nv12", n) for n in (1, 2, 3, 16)] == [2, 2, 6, 16]
    assert multiple_in("frame16", 1) == 1


def test_it_says_what_it_takes() -> None:
    assert str(layout("image", "frame")) == "uint8 [1, H, W, 3]"
    assert str(layout("image", "p010")) == "uint8 [1, 3H/2, W, 2]"
    assert str(frame_layout("image", "p010")) == "uint16 [1, 3H/2, W]"
    assert str(layout("context", "float")) == "float32 [1, K, 1, 1]"
