"""Cutting a frame into tiles whose results, put together, are what the whole frame gives.

A pixel of a net's output sees its input up to `halo` pixels away. So a tile is computed with that
margin around it, and the margin's results are thrown away; at the frame's own border there is no
margin, since there the net pads in the tile as it does in the frame. Every edge lies on a multiple
of `multiple` pixels: a net that folds or pools its pixels meets the same groups in a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import InputError
from allfocus.runtime.spec import Shapes, Size


@dataclass(frozen=True, order=True)
class Window:
    """A rectangle of a frame, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column beyond it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row beyond it."""
        return self.top + self.height

    @property
    def size(self) -> Size:
        """Its width and height."""
        return Size(self.width, self.height)

    @property
    def area(self) -> int:
        """Its pixels."""
        return self.width * self.height  # may be empty, as no Size is

    @classmethod
    def whole(cls, size: Size) -> Window:
        """All of a frame of `size`."""
        return cls(0, 0, size.width, size.height)

    def of(self, array: Array) -> Array:
        """This part of an array [H, W, ...]: a view."""
        return array[self.top : self.bottom, self.left : self.right]

    def seen_from(self, other: Window) -> Window:
        """The same rectangle, counted from the corner of `other`."""
        return Window(self.left - other.left, self.top - other.top, self.width, self.height)

    def moved(self, right: int, down: int) -> Window:
        """The same rectangle elsewhere."""
        return Window(self.left + right, self.top + down, self.width, self.height)

    def at_least(self, size: Size, frame: Size) -> Window:
        """This rectangle, or the one of at least `size` around it, within a frame that has it."""
        width, height = max(self.width, size.width), max(self.height, size.height)
        left, top = min(self.left, frame.width - width), min(self.top, frame.height - height)
        return Window(left, top, width, height)

    def shrunk(self, scale: int) -> Window:
        """The same part of a picture `scale` times smaller; its edges are multiples of that."""
        return Window(*(n // scale for n in (self.left, self.top, self.width, self.height)))


@dataclass(frozen=True)
class Tile:
    """A part of a frame that is computed at once: `seen` goes in, `kept` of the result stays."""

    seen: Window
    kept: Window

    def put(self, result: Array, out: Array) -> None:
        """Copy what is kept of `result`, which is `seen` large, to its place in the frame `out`."""
        self.kept.of(out)[...] = self.kept.seen_from(self.seen).of(result)

    def moved(self, right: int, down: int) -> Tile:
        """The same tile elsewhere."""
        return Tile(self.seen.moved(right, down), self.kept.moved(right, down))

    def shrunk(self, scale: int) -> Tile:
        """The same tile of a picture `scale` times smaller."""
        return Tile(self.seen.shrunk(scale), self.kept.shrunk(scale))


@dataclass(frozen=True)
class Grain:
    """What a net demands of tiles: margin and granularity, in pixels."""

    halo: int
    multiple: int

    def __post_init__(self) -> None:
        if self.halo < 0 or self.multiple < 1:
            raise InputError(
                f"a Spec with halo {self.halo} and multiple {self.multiple} says not how much a "
                "tile must see: tiles are not possible; export the model again"
            )

    @property
    def margin(self) -> int:
        """The halo as whole multiples."""
        return self.up(self.halo)

    def within(self, reach: int) -> Grain:
        """The same with no more of a margin than `reach` pixels."""
        return Grain(min(self.halo, reach), self.multiple)

    def up(self, length: float) -> int:
        """The least multiple that is not under `length`."""
        return int(-(-length // self.multiple)) * self.multiple

    def around(self, region: Window, frame: Size) -> Window:
        """What must be seen for `region` of a frame: its margin too, as far as there is any."""
        left, top = max(0, region.left - self.margin), max(0, region.top - self.margin)
        right = min(frame.width, region.right + self.margin)
        bottom = min(frame.height, region.bottom + self.margin)
        return Window(left, top, right - left, bottom - top)


def cover(region: Window, frame: Size, tile: Size, grain: Grain) -> list[Tile]:
    """Tiles of one size, `tile`, that compute `region` of a frame, each of its pixels once.

    All edges are multiples of `grain.multiple`. The last column and row are shifted inward rather
    than shrunk. Raises InputError for tiles larger than the frame, or too small to keep anything.
    """
    columns = _spans(region.left, region.right, frame.width, tile.width, grain.margin)
    rows = _spans(region.top, region.bottom, frame.height, tile.height, grain.margin)
    return [
        Tile(
            Window(x.start, y.start, tile.width, tile.height),
            Window(x.first, y.first, x.last - x.first, y.last - y.first),
        )
        for y in rows
        for x in columns
    ]


@lru_cache(maxsize=256)  # asked for each frame, and a stream's are of one size
def best_tile(need: Size, grain: Grain, pixels: int, shapes: Shapes | None = None) -> Size | None:
    """The tile of at most `pixels` pixels that covers `need` with the least work; None: too few.

    `need` is what must be seen altogether, a multiple. Of equal work, the fewest tiles.
    `shapes`: of the tile, where only some are possible.
    """
    if need.area <= pixels and _possible(need, shapes):
        return need
    widths, heights = (_lengths(length, grain) for length in (need.width, need.height))
    sizes = ((c * r, Size(width, height)) for c, width in widths for r, height in heights)
    found = [
        (count * size.area, count, size)
        for count, size in sizes
        if size.area <= pixels and _possible(size, shapes)
    ]
    return min(found)[2] if found else None


def work(need: Size, tile: Size, grain: Grain) -> int:
    """Pixels that tiles of a size compute to cover `need`, what must be seen altogether."""

    def count(whole: int, part: int) -> int:
        return 1 if part >= whole else -(-(whole - 2 * grain.margin) // (part - 2 * grain.margin))

    tiles = count(need.width, tile.width) * count(need.height, tile.height)
    return tiles * tile.width * tile.height


def least_pixels(need: Size, grain: Grain, shapes: Shapes | None = None) -> int:
    """Of the smallest tile that `best_tile` can give for `need`."""
    smallest = 2 * grain.margin + grain.multiple
    least = Size(smallest, smallest)
    least = least if shapes is None else least.at_least(shapes.min)
    return min(need.width, least.width) * min(need.height, least.height)


def blended(part: Array, under: Array, weight: Array, step: int = 1) -> Array:
    """`weight` [H, W] in 0 to 1 of `part` [H, W, ...] over the rest of `under`, in its type.

    Whole numbers stay whole `step`s away from `under`, as those of `part` are.
    """
    share = weight.reshape(weight.shape + (1,) * (under.ndim - 2))
    change = share * (part.astype(np.float32) - under)
    levels = change if under.dtype == np.float32 else step * np.rint(change / step)
    return np.asarray(under + levels, under.dtype)


@dataclass(frozen=True)
class _Span:
    """A tile along one axis: where it starts, and from where to where it is kept."""

    start: int
    first: int
    last: int


def _spans(first: int, last: int, total: int, length: int, margin: int) -> list[_Span]:
    """Tiles of `length` that compute the pixels `first` to `last` of an axis of `total`."""
    end = min(total, last + margin)
    if length > total or (length <= 2 * margin and length < end - max(0, first - margin)):
        raise InputError(
            f"a tile of {length} pixels does not suit {total} pixels with a margin of {margin}: "
            f"it must be larger than {2 * margin} and not larger than the frame"
        )
    return list(_walk(first, last, total, length, margin))


def _walk(first: int, last: int, total: int, length: int, margin: int) -> Iterator[_Span]:
    end = min(total, last + margin)
    while first < last:
        start = max(0, min(first - margin, max(end, length) - length))
        stop = start + length
        until = last if stop >= end else stop - margin
        yield _Span(start, first, until)
        first = until


def _possible(size: Size, shapes: Shapes | None) -> bool:
    return shapes is None or (shapes.min.within(size) and size.within(shapes.max))


def _lengths(need: int, grain: Grain) -> list[tuple[int, int]]:
    """For each number of tiles along an axis, the length that just covers `need`."""
    margin = grain.margin
    found: dict[int, int] = {need: 1}  # length -> tiles
    count = 2
    while True:
        length = max(
            grain.up((need + (count - 1) * 2 * margin) / count), 2 * margin + grain.multiple
        )
        if length >= need:
            break
        found.setdefault(length, count)
        if length == 2 * margin + grain.multiple:
            break
        count += 1
    return [(count, length) for length, count in found.items()]
