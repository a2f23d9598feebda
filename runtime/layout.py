"""The type and the axes of a graph's inputs and outputs, by their names and the graph's face."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import YUV, Io, Size

_U8, _U16, _F32 = (np.dtype(kind) for kind in ("uint8", "<u2", "float32"))
_ROWS = "3H/2"  # luma's rows, and half as many of chroma below them


@dataclass(frozen=True)
class Layout:
    """One tensor of a graph: H and W are the picture's height and width, K is a vector's length."""

    axes: tuple[int | str, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.axes))}]"

    def shape(self, size: Size, length: int = 0) -> tuple[int, ...]:
        """The tensor's shape for a picture of `size`; `length` stands for K."""
        extents = {"H": size.height, "W": size.width, _ROWS: 3 * size.height // 2, "K": length}
        return tuple(extents[axis] if isinstance(axis, str) else axis for axis in self.axes)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether `shape` is one of this layout, for any size and length."""
        if len(shape) != len(self.axes):
            return False
        pairs = list(zip(self.axes, shape, strict=True))
        if _ROWS in self.axes and any(n % {_ROWS: 3, "W": 2}.get(str(a), 1) for a, n in pairs):
            return False
        return all(isinstance(axis, str) or axis == extent for axis, extent in pairs)

    def size(self, shape: tuple[int, ...]) -> Size | None:
        """The picture's size in a shape that fits; None for a vector."""
        if "W" not in self.axes:
            return None
        width = shape[self.axes.index("W")]
        if _ROWS in self.axes:
            return Size(width, 2 * shape[self.axes.index(_ROWS)] // 3)
        return Size(width, shape[self.axes.index("H")])


_TENSORS: dict[Io, Layout] = {
    "frame": Layout((1, "H", "W", 3), _U8),
    "float": Layout((1, 3, "H", "W"), _F32),
    "frame16": Layout((1, "H", "W", 6), _U8),
    "nv12": Layout((1, _ROWS, "W"), _U8),
    "p010": Layout((1, _ROWS, "W", 2), _U8),
}
_FRAMES: dict[Io, Layout] = {
    **_TENSORS,
    "frame16": Layout((1, "H", "W", 3), _U16),
    "p010": Layout((1, _ROWS, "W"), _U16),
}
_VECTOR = Layout((1, "K", 1, 1), _F32)


def layout(name: str, io: Io) -> Layout:
    """The layout of the tensor `name` in a graph with the face `io`."""
    return _found(name, io, _TENSORS)


def frame_layout(name: str, io: Io) -> Layout:
    """The same as callers have it: with samples of 16 bits, where the graph has their bytes."""
    return _found(name, io, _FRAMES)


def as_frame(name: str, tensor: NDArray[Any], io: Io) -> NDArray[Any]:
    """The contiguous tensor `name` of a graph as `frame_layout` tells: the same memory."""
    return _seen_as(tensor, layout(name, io), frame_layout(name, io))


def as_tensor(name: str, frame: NDArray[Any], io: Io) -> NDArray[Any]:
    """The inverse of `as_frame`."""
    return _seen_as(frame, frame_layout(name, io), layout(name, io))


def channels_last(frame: NDArray[Any], io: Io) -> NDArray[Any]:
    """A frame as `frame_layout` tells, without its leading 1, as a picture on the host lies."""
    return np.ascontiguousarray(np.moveaxis(frame, 0, 2)) if io == "float" else frame


def channels_first(picture: NDArray[Any], io: Io) -> NDArray[Any]:
    """The inverse of `channels_last`."""
    return np.ascontiguousarray(np.moveaxis(picture, 2, 0)) if io == "float" else picture


def multiple_in(io: Io, multiple: int) -> int:
    """What height and width are multiples of in a graph with the face `io`, where the net asks for
    `multiple`: even where four pixels share a sample of chroma."""
    return math.lcm(multiple, 2) if io in YUV else multiple


def _seen_as(array: NDArray[Any], given: Layout, wanted: Layout) -> NDArray[Any]:
    """An array of one layout as one of another that has the same bytes."""
    if wanted == given:
        return array
    size = given.size(array.shape)
    assert size is not None
    return array.view(wanted.dtype).reshape(wanted.shape(size))


def _found(name: str, io: Io, pictures: dict[Io, Layout]) -> Layout:
    if KINDS[name] == "picture":
        return pictures[io]
    if KINDS[name] == "vector":
        return _VECTOR
    return Layout((1, 1, "H", "W") if io == "float" else (1, "H", "W"), _F32)
