"""The two faces of a graph: from a colour frame to what the graph takes, and back.

Buffers for what goes in are kept from call to call; what comes out is a fresh array every time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import BackendError
from allfocus.runtime.frame import peak
from allfocus.runtime.layout import layout
from allfocus.runtime.spec import Color, Graph, Size

_PLANES: dict[Color, tuple[int, int, int]] = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}


def pad(image: Array, size: Size, out: Array | None = None) -> Array:
    """`image` [H, W, 3] or [H, W] grown to `size` at the right and bottom, by mirroring.

    The edge line is not repeated. Where the border is larger than the image, the mirror image is
    mirrored again.
    """
    below, right = size.height - image.shape[0], size.width - image.shape[1]
    mode = cv2.BORDER_REFLECT_101
    return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, mode, dst=out))


class Face(ABC):
    """How frames in a caller's channel order enter and leave one graph."""

    def __init__(self, graph: Graph, color: Color) -> None:
        self.graph = graph
        self.color = color
        self._kept: dict[str, Array] = {}

    @abstractmethod
    def pack(self, image: Array, size: Size, name: str = "image") -> Array:
        """A frame [H, W, 3] padded to `size`, in the graph's layout, as its input `name`.

        The next call for the same input writes over it.
        """

    @abstractmethod
    def unpack(self, sharp: Array, size: Size, dtype: np.dtype[Any]) -> Array:
        """The graph's `sharp`, cropped to `size`, as a fresh frame [H, W, 3] of `dtype`."""

    def _buffer(self, name: str, size: Size) -> Array:
        wanted = layout(name, self.graph.io)
        kept, shape = self._kept.get(name), wanted.shape(size)
        if kept is None or kept.shape != shape:
            kept = self._kept[name] = np.empty(shape, wanted.dtype)
        return kept


class FrameFace(Face):
    """uint8 [1, H, W, 3] in and out, in the graph's own channel order."""

    def pack(self, image: Array, size: Size, name: str = "image") -> Array:
        """See Face; `image` is uint8."""
        out = self._buffer(name, size)
        pad(self._swapped(image), size, out[0])
        return out

    def unpack(self, sharp: Array, size: Size, dtype: np.dtype[Any]) -> Array:
        """See Face; `dtype` is uint8."""
        cropped = sharp[0, : size.height, : size.width]
        return np.array(self._swapped(cropped), dtype, order="C")

    def _swapped(self, image: Array) -> Array:
        """RGB from BGR and back, where the caller's order is not the graph's."""
        if self.color == self.graph.color:
            return image
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB))


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
    return FrameFace(graph, color) if graph.io == "frame" else FloatFace(graph, color)
