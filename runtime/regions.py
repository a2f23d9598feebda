"""Which parts of a frame are worth computing: few rectangles around all that is blurred.

A rectangle costs what its tiles see, margin included, so that two rectangles far apart are cheaper
than the one around both, and two close ones are not.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.spec import Size
from allfocus.runtime.tiling import Grain, Window

_LEAST_BLOCK = 16  # pixels: finer rectangles would save less than their margins cost
_BLOCKS = 120  # along the longer side, at most about so many: they are looked at one by one
_CALL = 64 * 64  # pixels that could be computed in the time a further call takes


def block_side(grain: Grain, frame: Size) -> int:
    """The side of the squares of pixels that are computed together or not at all."""
    return grain.up(max(_LEAST_BLOCK, max(frame.width, frame.height) / _BLOCKS))


def active_blocks(active: Array, side: int) -> Array:
    """Which squares of `side` pixels hold any pixel of `active` [H, W]; those at the right and the
    bottom may be cut."""
    rows, columns = (np.arange(0, length, side) for length in active.shape)
    found = np.logical_or.reduceat(np.logical_or.reduceat(active, rows, axis=0), columns, axis=1)
    return np.asarray(found)


def windows(active: Array, grain: Grain) -> list[Window]:
    """Disjoint windows, with edges on multiples, that hold every pixel of `active` [H, W].

    Found by taking out the largest empty rectangle, as long as that saves anything.
    """
    frame = Size(active.shape[1], active.shape[0])
    side = block_side(grain, frame)
    blocks = active_blocks(active, side)

    def in_pixels(block: Window) -> Window:
        left, top = side * block.left, side * block.top
        right, bottom = min(side * block.right, frame.width), min(side * block.bottom, frame.height)
        return Window(left, top, right - left, bottom - top)

    def cost(block: Window) -> int:
        return grain.around(in_pixels(block), frame).area + _CALL

    whole = _tight(blocks, Window(0, 0, blocks.shape[1], blocks.shape[0]))
    parts = [] if whole is None else _parted(blocks, whole, cost)
    return [_cropped(active, in_pixels(part), grain) for part in parts]


def fading(active: Array, width: int) -> Array:
    """Weights [H, W] in 0 to 1: 1 where `active`, falling to 0 over `width` pixels around."""
    if not width:
        return active.astype(np.float32)
    distance = cv2.distanceTransform((~active).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.clip(1 - distance / np.float32(width), 0, 1))


def _parted(blocks: Array, part: Window, cost: Callable[[Window], int]) -> list[Window]:
    """`part` itself, or what is left of it without the largest empty rectangle in it."""
    empty = _largest_empty(part.of(blocks))
    if empty is None:
        return [part]
    hole = Window(part.left + empty.left, part.top + empty.top, empty.width, empty.height)
    ways = [_tightened(blocks, pieces) for pieces in _around(part, hole)]
    best = min(ways, key=lambda pieces: sum(map(cost, pieces)))
    if sum(map(cost, best)) >= cost(part):
        return [part]
    return [smaller for piece in best for smaller in _parted(blocks, piece, cost)]


def _around(part: Window, hole: Window) -> tuple[list[Window], list[Window]]:
    """What surrounds a hole as four windows, some of them empty: with high sides, or wide ones."""

    def window(left: int, top: int, right: int, bottom: int) -> Window:
        return Window(left, top, right - left, bottom - top)

    left, top, right, bottom = part.left, part.top, part.right, part.bottom
    high = [
        window(left, top, hole.left, bottom),
        window(hole.right, top, right, bottom),
        window(hole.left, top, hole.right, hole.top),
        window(hole.left, hole.bottom, hole.right, bottom),
    ]
    wide = [
        window(left, top, right, hole.top),
        window(left, hole.bottom, right, bottom),
        window(left, hole.top, hole.left, hole.bottom),
        window(hole.right, hole.top, right, hole.bottom),
    ]
    return high, wide


def _largest_empty(blocks: Array) -> Window | None:
    """The largest rectangle of `blocks` in which nothing is active; None where there is none.

    Row by row: each column's free height above, and the widest run that has at least so much.
    """
    best: Window | None = None
    free = np.zeros(blocks.shape[1], int)
    for row, active in enumerate(blocks):
        free = np.where(active, 0, free + 1)
        starts: list[tuple[int, int]] = []  # (column, height), heights rising
        for column, height in enumerate((*free.tolist(), 0)):
            first = column
            while starts and starts[-1][1] >= height:
                first, above = starts.pop()
                if best is None or above * (column - first) > best.area:
                    best = Window(first, row + 1 - above, column - first, above)
            starts.append((first, height))
    return best if best is not None and best.area else None


def _cropped(active: Array, part: Window, grain: Grain) -> Window:
    """What of `part` is between its first and last pixels of `active`, as whole multiples."""
    tight = _tight(active, part)
    assert tight is not None  # its blocks hold some
    left, top = (n // grain.multiple * grain.multiple for n in (tight.left, tight.top))
    right, bottom = grain.up(tight.right), grain.up(tight.bottom)
    return Window(left, top, right - left, bottom - top)


def _tightened(blocks: Array, parts: list[Window]) -> list[Window]:
    """Each of `parts` around what is active in it; without those where nothing is."""
    found = (_tight(blocks, part) for part in parts if part.width > 0 and part.height > 0)
    return [part for part in found if part is not None]


def _tight(blocks: Array, part: Window) -> Window | None:
    """The smallest window around what is active in `part`; None where nothing is."""
    inside = part.of(blocks)
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    if not columns.size:
        return None
    left, top = int(columns[0]), int(rows[0])
    width, height = int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
    return Window(part.left + left, part.top + top, width, height)
