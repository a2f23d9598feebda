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
_CALL = 64 * 64  # pixels that could be computed in the time a further call takes


def block_side(grain: Grain) -> int:
    """The side of the squares of pixels that are computed together or not at all."""
    return grain.up(_LEAST_BLOCK)


def active_blocks(active: Array, side: int) -> Array:
    """Which squares of `side` pixels hold any pixel of `active` [H, W]; those at the right and the
    bottom may be cut."""
    rows, columns = (np.arange(0, length, side) for length in active.shape)
    found = np.logical_or.reduceat(np.logical_or.reduceat(active, rows, axis=0), columns, axis=1)
    return np.asarray(found)


def windows(active: Array, grain: Grain) -> list[Window]:
    """Disjoint windows, with edges on multiples, that hold every pixel of `active` [H, W].

    Found by halving: a window is cut where that saves most, as long as it saves anything.
    """
    side = block_side(grain)
    frame = Size(active.shape[1], active.shape[0])
    blocks = active_blocks(active, side)

    def in_pixels(block: Window) -> Window:
        left, top = side * block.left, side * block.top
        right, bottom = min(side * block.right, frame.width), min(side * block.bottom, frame.height)
        return Window(left, top, right - left, bottom - top)

    def cost(block: Window) -> int:
        return grain.around(in_pixels(block), frame).area + _CALL

    whole = _tight(blocks, Window(0, 0, blocks.shape[1], blocks.shape[0]))
    return [] if whole is None else [in_pixels(part) for part in _parted(blocks, whole, cost)]


def fading(active: Array, width: int) -> Array:
    """Weights [H, W] in 0 to 1: 1 where `active`, falling to 0 over `width` pixels around."""
    if not width:
        return active.astype(np.float32)
    distance = cv2.distanceTransform((~active).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.clip(1 - distance / np.float32(width), 0, 1))


def _parted(blocks: Array, part: Window, cost: Callable[[Window], int]) -> list[Window]:
    """`part` itself, or what it falls into at its best cut."""
    best, pieces = cost(part), [part]
    for first, second in _cuts(part):
        both = [_tight(blocks, half) for half in (first, second)]
        found = [half for half in both if half is not None]
        total = sum(map(cost, found))
        if total < best:
            best, pieces = total, found
    if pieces == [part]:
        return pieces
    return [piece for half in pieces for piece in _parted(blocks, half, cost)]


def _cuts(part: Window) -> list[tuple[Window, Window]]:
    """Every way to cut a window in two."""
    across = [
        (
            Window(part.left, part.top, width, part.height),
            Window(part.left + width, part.top, part.width - width, part.height),
        )
        for width in range(1, part.width)
    ]
    down = [
        (
            Window(part.left, part.top, part.width, height),
            Window(part.left, part.top + height, part.width, part.height - height),
        )
        for height in range(1, part.height)
    ]
    return across + down


def _tight(blocks: Array, part: Window) -> Window | None:
    """The smallest window around what is active in `part`; None where nothing is."""
    inside = part.of(blocks)
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    if not columns.size:
        return None
    left, top = int(columns[0]), int(rows[0])
    width, height = int(columns[-1]) - left + 1, int(rows[-1]) - top + 1
    return Window(part.left + left, part.top + top, width, height)
