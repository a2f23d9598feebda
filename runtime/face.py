"""The faces of a graph: from a caller's picture to what the graph takes, and back.

Buffers for what goes in are kept from call to call; what comes out is a fresh array every time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import BackendError
from allfocus.runtime.form import form_of, pad
from allfocus.runtime.frame import peak
from allfocus.runtime.layout import as_frame, layout
from allfocus.runtime.spec import YUV, Color, Graph, Size
from allfocus.runtime.tiling import Window

_PLANES: dict[Color, tuple[int, int, int]] = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}


class Face(ABC):
    """How pictures in a caller's channel order enter and leave one graph.

    They lie as `form` says: colour frames [H, W, 3], or frames of luma and chroma [3H/2, W].
    """

    def __init__(self, graph: Graph, color: Color) -> None:
        self.graph = graph
        self.color = color
        self.form = form_of("image", graph.io)
        self._kept: dict[str, Array] = {}

    @abstractmethod
    def pack(self, image: Array, size: Size, name: str = "image") -> Array:
        """A picture padded to `size`, in the graph's layout, as its input `name`.

        The next call for the same input writes over it.
        """

    @abstractmethod
    def unpack(self, sharp: Array, size: Size, dtype: np.dtype[Any]) -> Array:
        """The graph's `sharp`, cropped to `size`, as a fresh picture of `dtype`."""

    def _buffer(self, name: str, size: Size) -> Array:
        wanted = layout(name, self.graph.io)
        kept, shape = self._kept.get(name), wanted.shape(size)
        if kept is None or kept.shape != shape:
            kept = self._kept[name] = np.empty(shape, wanted.dtype)
        return kept


class FrameFace(Face):
    """uint8 or uint16 [1, H, W, 3] in and out, in the graph's own channel order."""

    def pack(self, image: Array, size: Size, name: str = "image") -> Array:
        """See Face; `image` is of the graph's depth."""
        out = self._buffer(name, size)
        self.form.fill(as_frame(name, out, self.graph.io)[0], self._swapped(image))
        return out

    def unpack(self, sharp: Array, size: Size, dtype: np.dtype[Any]) -> Array:
        """See Face; `dtype` is the graph's."""
        whole = as_frame("sharp", sharp, self.graph.io)[0]
        cropped = self.form.cut(whole, Window.whole(size))
        return np.array(self._swapped(cropped), dtype, order="C")

    def _swapped(self, image: Array) -> Array:
        """RGB from BGR and back, where the caller's order is not the graph's."""
        if self.color == self.graph.color:
            return image
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB))


class YuvFace(FrameFace):
    """uint8 or uint16 [1, 3H/2, W] in and out: colours are made within the graph."""

    def _swapped(self, image: Array) -> Array:
        return image


class FloatFace(Face):
    """float32 [1, 3, H, W] in [0, 1] in, RGB; the same out, not clipped."""

    def pack(self, image: Array, size: Size, name: str = "image") -> Array:
        """See Face; `image` is uint8, uint16 or float32."""
        out = self._buffer(name, size)
        white = np.float32(peak(image.dtype))
        padded = pad(image, size)
        for plane, channel in zip(out[0], _PLANES[self.color], strict=True):
            np.divide(padded[..., channel], white, out=plane, dtype=np.float32)
        return out

    def unpack(self, sharp: Array, size: Size, dtype: np.dtype[Any]) -> Array:
        """See Face. Raises BackendError where the graph computed something that is not a number."""
        white = np.float32(peak(dtype))
        image = np.empty((size.height, size.width, 3), dtype)
        for plane, channel in zip(sharp[0], _PLANES[self.color], strict=True):
            levels = np.clip(plane[: size.height, : size.width] * white, 0, white)
            if np.isnan(levels.sum()):
                raise BackendError(
                    "the model's output holds NaN: its numbers overflow at this precision; export "
                    "it with `--precision fp32`"
                )
            image[..., channel] = levels if dtype == np.float32 else np.rint(levels)
        return image


def face(graph: Graph, color: Color) -> Face:
    """The face of `graph` for frames in the order `color`."""
    if graph.io == "float":
        return FloatFace(graph, color)
    return (YuvFace if graph.io in YUV else FrameFace)(graph, color)
