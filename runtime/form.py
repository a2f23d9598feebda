"""How pictures lie in arrays, and what tiles need of it: cutting, padding, putting together.

A colour frame or a plane is [H, W] or [H, W, C]. A frame of luma and chroma is [3H/2, W], as
OpenCV's COLOR_YUV2BGR_NV12 and PyAV's `to_ndarray(format="nv12")` have it: H rows of luma, then H/2
of chroma, whose two samples for four pixels stand beside each other. Its H and W are even, and so
are the edges of all windows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.frame import from_color, to_color
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import YUV, Io, Size
from allfocus.runtime.tiling import Tile, Window, blended
from allfocus.runtime.turn import Turn
from allfocus.runtime.ycbcr import P010_STEP


def pad(image: Array, size: Size, out: Array | None = None) -> Array:
    """`image` [H, W, ...] grown to `size` at the right and bottom, by mirroring.

    The edge line is not repeated. Where the border is larger than the image, the mirror image is
    mirrored again.
    """
    below, right = size.height - image.shape[0], size.width - image.shape[1]
    mode = cv2.BORDER_REFLECT_101
    return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, mode, dst=out))


class Form(ABC):
    """How the pictures of a face lie in a caller's array. `step` is that of a level."""

    def __init__(self, step: int = 1) -> None:
        self.step = step

    @abstractmethod
    def parts(self, image: Array) -> list[tuple[Array, int]]:
        """Views of its matrices of pixels [h, w, ...], each with how many pixels of the first of
        them an edge of its own pixels covers."""

    @abstractmethod
    def empty(self, size: Size, like: Array) -> Array:
        """An array for a picture of `size` with the type and the channels of `like`."""

    @abstractmethod
    def cut(self, image: Array, window: Window) -> Array:
        """This part of `image`, maybe a view of it."""

    @abstractmethod
    def opened(self, frame: Array) -> Array:
        """A checked frame as a picture."""

    @abstractmethod
    def closed(self, image: Array, frame: Array) -> Array:
        """The inverse of `opened` for a result: with the shape and the alpha of `frame`."""

    def size(self, image: Array) -> Size:
        """Width and height in pixels."""
        height, width = self.parts(image)[0][0].shape[:2]
        return Size(width, height)

    def fitting(self, size: Size) -> Size:
        """The least size not under this one that a picture may have."""
        return size

    def reduced(self, size: Size, times: int) -> Size:
        """The least size that a picture of `size` may have `times` times smaller."""
        return self.fitting(Size(-(-size.width // times), -(-size.height // times)))

    def grown(self, image: Array, size: Size) -> Array:
        """`image` padded to `size`; itself where it has it."""
        if self.size(image) == size:
            return image
        out = self.empty(size, image)
        self.fill(out, image)
        return out

    def fill(self, out: Array, image: Array) -> None:
        """Write `image` into the larger `out`, and what it mirrors into the rest."""
        for (target, _), (source, _) in zip(self.parts(out), self.parts(image), strict=True):
            pad(source, Size(target.shape[1], target.shape[0]), target)

    def put(self, tile: Tile, result: Array, out: Array) -> None:
        """Copy what `tile` keeps of its result to its place in `out`."""
        for (source, scale), (target, _) in zip(self.parts(result), self.parts(out), strict=True):
            tile.shrunk(scale).put(source, target)

    def resized(self, image: Array, size: Size) -> Array:
        """The smaller picture of `size`, of means."""
        out = self.empty(size, image)
        for (target, _), (source, _) in zip(self.parts(out), self.parts(image), strict=True):
            extent = (target.shape[1], target.shape[0])
            target[...] = cv2.resize(source, extent, interpolation=cv2.INTER_AREA)
        return out

    def turned(self, image: Array, turn: Turn) -> Array:
        """`image` laid as `turn` says; itself where that is how it lies."""
        if turn == Turn():
            return image
        out = self.empty(turn.of_size(self.size(image)), image)
        for (target, _), (source, _) in zip(self.parts(out), self.parts(image), strict=True):
            target[...] = turn.of(source)
        return out

    def carried(self, before: Array, after: Array, larger: Array) -> Array:
        """`larger` with what changed from `before` to `after`, both smaller, enlarged and added."""
        out = np.empty_like(larger)
        parts = (self.parts(each) for each in (out, before, after, larger))
        for (target, _), (old, _), (new, _), (source, _) in zip(*parts, strict=True):
            change = new.astype(np.float32) - old
            extent = (target.shape[1], target.shape[0])
            enlarged = cv2.resize(change, extent, interpolation=cv2.INTER_CUBIC)
            target[...] = _moved(source, np.asarray(enlarged), self.step)
        return out

    def blended(self, part: Array, under: Array, weight: Array) -> Array:
        """`weight` [H, W] in 0 to 1 of `part` over the rest of `under`."""
        out = np.empty_like(under)
        together = zip(self.parts(out), self.parts(part), self.parts(under), strict=True)
        for (target, _), (above, _), (below, _) in together:
            extent = (target.shape[1], target.shape[0])
            share = cv2.resize(weight, extent, interpolation=cv2.INTER_AREA)
            target[...] = blended(above, below, np.asarray(share), self.step)
        return out


def _moved(pixels: Array, change: Array, step: int) -> Array:
    """By whole `step`s, within what the type of `pixels` holds, which is 0 to 1 of floats."""
    if pixels.dtype == np.float32:
        return np.asarray(np.clip(pixels + change, 0, 1))
    if step == 1:  # OpenCV rounds, and stays within, without arrays in between
        depth = cv2.CV_8U if pixels.dtype == np.uint8 else cv2.CV_16U
        return np.asarray(cv2.add(pixels, change, dtype=depth)).reshape(pixels.shape)
    levels, rest = np.divmod(pixels, step)
    most = np.iinfo(pixels.dtype).max // step
    moved = np.clip(levels + np.rint(change / step), 0, most).astype(pixels.dtype)
    return np.asarray(moved * pixels.dtype.type(step) + rest, pixels.dtype)


class Colour(Form):
    """[H, W] or [H, W, C]: all pixels in one matrix."""

    def parts(self, image: Array) -> list[tuple[Array, int]]:
        """See Form."""
        return [(image, 1)]

    def empty(self, size: Size, like: Array) -> Array:
        """See Form."""
        return np.empty((size.height, size.width, *like.shape[2:]), like.dtype)

    def cut(self, image: Array, window: Window) -> Array:
        """See Form: a view."""
        return window.of(image)

    def opened(self, frame: Array) -> Array:
        """See Form: grey is repeated, alpha left out."""
        return to_color(frame)

    def closed(self, image: Array, frame: Array) -> Array:
        """See Form."""
        return from_color(image, frame)


class LumaChroma(Form):
    """[3H/2, W]: luma, and chroma of two samples for four pixels below it."""

    def parts(self, image: Array) -> list[tuple[Array, int]]:
        """See Form: luma [H, W] and chroma [H/2, W/2, 2]."""
        rows, width = image.shape
        height = 2 * rows // 3
        return [(image[:height], 1), (image[height:].reshape(height // 2, width // 2, 2), 2)]

    def fitting(self, size: Size) -> Size:
        """See Form."""
        return size.padded(2)

    def empty(self, size: Size, like: Array) -> Array:
        """See Form."""
        return np.empty((3 * size.height // 2, size.width), like.dtype)

    def cut(self, image: Array, window: Window) -> Array:
        """See Form: a copy, but for the whole."""
        if window == Window.whole(self.size(image)):
            return image
        out = self.empty(window.size, image)
        for (target, scale), (source, _) in zip(self.parts(out), self.parts(image), strict=True):
            target[...] = window.shrunk(scale).of(source)
        return out

    def opened(self, frame: Array) -> Array:
        """See Form."""
        return np.ascontiguousarray(frame)

    def closed(self, image: Array, frame: Array) -> Array:
        """See Form."""
        del frame
        return image


COLOUR = Colour()


def form_of(name: str, io: Io) -> Form:
    """The form of the picture or plane `name` beside a graph with the face `io`."""
    if io not in YUV or KINDS[name] != "picture":
        return COLOUR
    return LumaChroma(P010_STEP if io == "p010" else 1)
