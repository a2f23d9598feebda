"""Padding, cropping and conversion between frames and the two faces of a graph."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from allfocus.runtime.errors import BackendError
from allfocus.runtime.face import Face, face
from allfocus.runtime.form import pad
from allfocus.runtime.frame import peak
from allfocus.runtime.spec import Color, Graph, Io, Size

DTYPES = [np.uint8, np.uint16, np.float32]
sides = st.integers(1, 20)
grown = st.integers(0, 45)
colors = st.sampled_from(["rgb", "bgr"])

Array = NDArray[Any]


def image_of(height: int, width: int, dtype: type = np.uint8, seed: int = 0) -> Array:
    values = np.random.default_rng(seed).random((height, width, 3))
    return (values * peak(np.dtype(dtype))).astype(dtype)


def make(io: Io, graph_color: Color, color: Color) -> Face:
    return face(Graph(io=io, precision="fp32", color=graph_color, shapes=None), color)


@given(sides, sides, grown, grown, st.sampled_from(DTYPES))
def test_padding_mirrors_like_numpy(
    height: int, width: int, below: int, right: int, dtype: type
) -> None:
    image = image_of(height, width, dtype)
    expected = np.pad(image, ((0, below), (0, right), (0, 0)), mode="reflect")
    size = Size(width + right, height + below)
    np.testing.assert_array_equal(pad(image, size), expected)
    out = np.zeros_like(expected)
    pad(image, size, out)
    np.testing.assert_array_equal(out, expected)


@given(sides, sides, grown, grown, colors, colors)
def test_the_frame_face_gives_back_what_it_took(
    height: int, width: int, below: int, right: int, graph_color: Color, color: Color
) -> None:
    image = image_of(height, width)
    port = make("frame", graph_color, color)
    packed = port.pack(image, Size(width + right, height + below))
    assert packed.shape == (1, height + below, width + right, 3)
    in_graph_order = image if graph_color == color else image[..., ::-1]
    np.testing.assert_array_equal(packed[0, :height, :width], in_graph_order)
    back = port.unpack(packed, Size(width, height), image.dtype)
    np.testing.assert_array_equal(back, image)
    assert not np.may_share_memory(back, packed)


@given(sides, sides, grown, grown, colors, colors)
def test_so_does_that_of_sixteen_bits(
    height: int, width: int, below: int, right: int, graph_color: Color, color: Color
) -> None:
    image = image_of(height, width, np.uint16)
    port = make("frame16", graph_color, color)
    packed = port.pack(image, Size(width + right, height + below))
    assert packed.shape == (1, height + below, width + right, 6)
    in_graph_order = image if graph_color == color else image[..., ::-1]
    seen = packed[0, :height, :width].reshape(height, width, 3, 2)
    np.testing.assert_array_equal(seen[..., 0] + 256 * seen[..., 1].astype(int), in_graph_order)
    back = port.unpack(packed, Size(width, height), image.dtype)
    np.testing.assert_array_equal(back, image)
    assert back.dtype == np.uint16
    assert not np.may_share_memory(back, packed)


@given(sides, sides, grown, grown, colors, st.sampled_from([np.uint8, np.uint16]))
def test_so_does_that_of_luma_and_chroma_in_any_order(
    height: int, width: int, below: int, right: int, color: Color, dtype: type
) -> None:
    image = image_of(3 * height, 2 * width, dtype)[..., 0]
    io: Io = "nv12" if dtype == np.uint8 else "p010"
    size = Size(2 * (width + right), 2 * (height + below))
    packed = make(io, "rgb", color).pack(image, size)
    assert packed.shape[:3] == (1, 3 * (height + below), size.width)
    np.testing.assert_array_equal(
        packed.view(dtype)[0, : 2 * height, : 2 * width].squeeze(), image[: 2 * height].squeeze()
    )
    back = make(io, "rgb", color).unpack(packed, Size(2 * width, 2 * height), image.dtype)
    np.testing.assert_array_equal(back, image)
    assert not np.may_share_memory(back, packed)


@given(sides, sides, grown, grown, colors, st.sampled_from(DTYPES))
def test_the_float_face_gives_back_what_it_took(
    height: int, width: int, below: int, right: int, color: Color, dtype: type
) -> None:
    image = image_of(height, width, dtype)
    port = make("float", "rgb", color)
    packed = port.pack(image, Size(width + right, height + below))
    assert packed.shape == (1, 3, height + below, width + right)
    assert packed.dtype == np.float32
    rgb = image if color == "rgb" else image[..., ::-1]
    wanted = rgb.astype(np.float32) / np.float32(peak(image.dtype))
    np.testing.assert_array_equal(packed[0, :, :height, :width], wanted.transpose(2, 0, 1))
    back = port.unpack(packed, Size(width, height), image.dtype)
    assert back.dtype == dtype
    np.testing.assert_allclose(back, image, atol=1 if dtype == np.uint16 else 0)
    assert not np.may_share_memory(back, packed)


def test_the_buffer_is_kept_and_follows_the_size() -> None:
    for io in ("frame", "float", "frame16"):
        port = make(io, "rgb", "rgb")  # type: ignore[arg-type]
        dtype = np.uint16 if io == "frame16" else np.uint8
        first = port.pack(image_of(4, 8, dtype), Size(8, 4))
        assert port.pack(image_of(4, 8, dtype, seed=1), Size(8, 4)) is first
        assert port.pack(image_of(8, 8, dtype), Size(8, 8)).shape != first.shape


def test_float_results_are_rounded_and_clipped() -> None:
    levels = np.array([-9.0, -0.4, 0.4, 0.6, 254.4, 254.6, 255.4, 900.0], np.float32)
    sharp = np.broadcast_to(levels / np.float32(255), (1, 3, 1, 8))
    image = make("float", "rgb", "bgr").unpack(sharp, Size(8, 1), np.dtype(np.uint8))
    assert image[0, :, 0].tolist() == [0, 0, 0, 1, 254, 255, 255, 255]
    unit = make("float", "rgb", "bgr").unpack(sharp, Size(8, 1), np.dtype(np.float32))
    assert (unit.min(), unit.max()) == (0, 1)


def test_nan_from_the_graph_is_an_error_not_black() -> None:
    sharp = np.zeros((1, 3, 4, 4), np.float32)
    sharp[0, 1, 2, 3] = np.nan
    with pytest.raises(BackendError, match="--precision fp32"):
        make("float", "rgb", "bgr").unpack(sharp, Size(4, 4), np.dtype(np.uint8))


@pytest.mark.parametrize("io", ["frame", "float"])
def test_conversion_is_cheap(io: Io) -> None:
    """3 % of inference is the promise; DID-ANet takes over a second for this size on a CPU."""
    size, image = Size(600, 400), image_of(400, 600)
    port = make(io, "rgb", "bgr")
    times = []
    for _ in range(9):
        start = perf_counter()
        port.unpack(port.pack(image, size), size, image.dtype)
        times.append(perf_counter() - start)
    assert min(times) < 0.03
