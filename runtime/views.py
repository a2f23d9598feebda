"""The blur radius at each pixel from the two views of a dual-pixel sensor, of pictures of any size.

What is out of focus lies apart in the views, by about as many pixels as the radius has. A photo of
many pixels has it apart by more than a net knows: it is looked at reduced too, and what is wide
there is taken from there. And it has more pixels than there is memory for: it is looked at in
tiles, which also show a net about as much as it was trained to see.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.frame import checked
from allfocus.runtime.model import Model
from allfocus.runtime.pictures.radius import WIDEST
from allfocus.runtime.spec import YUV, Size

TILE = 768  # pixels of a side that are looked at together, at most
_OVERLAP = 128  # pixels that neighbours share, at least, where tiles are that large
_SMALL = 1_000_000  # pixels of a picture that is not looked at reduced
_MOST_REDUCED = 8  # times
_KNOWN, _WIDE = 8.0, 14.0  # pixels of radius: up to there as it is, from there on reduced

Radii = NDArray[np.float32]


def radius_of_views(model: Model, left: Array, right: Array) -> Radii:
    """Radii in pixels, float32 [H, W], at most 64, of two views, as `model` takes frames.

    `model` takes `left` and `right` and gives `defocus`: see `check_takes_views`. Views of more
    than `TILE` pixels a side are looked at in tiles, which are blended; those of over a million
    pixels reduced by 2, 4 and 8 too, as far as they are over a million then. Raises InputError for
    what are no two views of one size, and what the model raises.
    """
    left, right = (checked(view, model.graph.io) for view in (left, right))
    if left.shape != right.shape or left.dtype != right.dtype:
        kinds = [f"{view.dtype} {list(view.shape)}" for view in (left, right)]
        raise InputError(f"expected two views of one size and type, got {kinds[0]} and {kinds[1]}")
    return _radius(model, left, right, 1).clip(0, WIDEST)


def check_takes_views(model: Model) -> None:
    """Raise UsageError for a model that does not make a map of radii of a left and a right view."""
    graph, name = model.graph, model.spec.name
    signature = graph.signature
    if tuple(signature.inputs) != ("left", "right") or tuple(signature.outputs) != ("defocus",):
        raise UsageError(
            f"{name} is {signature}: expected a model that makes a map of left and right views, "
            "such as dualpixel-map-lite; `allfocus deblur --map` writes the maps that the others "
            "estimate"
        )
    if graph.io in YUV:
        raise UsageError(
            f"{name}: exported for {graph.io}, where colour pictures are read; leave out --io"
        )


def _radius(model: Model, left: Array, right: Array, factor: int) -> Radii:
    """In pixels of these views, which are `factor` times smaller than the picture."""
    fine = _in_tiles(model, left, right)
    height, width = left.shape[:2]
    if height * width <= _SMALL or factor >= _MOST_REDUCED:
        return fine
    size = (-(-width // 2), -(-height // 2))
    halves = [cv2.resize(view, size, interpolation=cv2.INTER_AREA) for view in (left, right)]
    small = _radius(model, halves[0], halves[1], 2 * factor)
    coarse = 2 * cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    share = ((coarse - _KNOWN) / (_WIDE - _KNOWN)).clip(0, 1)
    return np.asarray(fine + share * (coarse - fine), np.float32)


def _in_tiles(model: Model, left: Array, right: Array) -> Radii:
    """The model's map of views of any size; where tiles overlap, one goes over into the other."""
    height, width = left.shape[:2]
    most = model.graph.shapes.max if model.graph.shapes else Size(TILE, TILE)
    rows = list(_spans(height, min(TILE, most.height)))
    columns = list(_spans(width, min(TILE, most.width)))
    if len(rows) == len(columns) == 1:
        return np.asarray(model(left=left, right=right)["defocus"], np.float32)
    total, weights = np.zeros((2, height, width), np.float32)
    for row, down in rows:
        for column, across in columns:
            part = (row, column)
            weight = down[:, None] * across
            # a copy: what a backend is given lies in one piece
            views = [np.ascontiguousarray(view[part]) for view in (left, right)]
            total[part] += weight * model(left=views[0], right=views[1])["defocus"]
            weights[part] += weight
    return np.asarray(total / weights, np.float32)


def _spans(length: int, most: int) -> Iterator[tuple[slice, Radii]]:
    """Spans of at most `most` pixels that cover `length`, alike in length, and the weight of each
    pixel in them, which falls off towards a neighbour."""
    overlap = min(_OVERLAP, most // 4)
    count = 1 if length <= most else -(-(length - overlap) // (most - overlap))
    span = min(length, most)
    for index in range(count):
        start = round(index * (length - span) / max(1, count - 1))
        inside = np.arange(span, dtype=np.float32) + 0.5
        ramp = np.ones(span, np.float32)
        if index > 0:
            ramp = np.minimum(ramp, inside / max(1, overlap))
        if index < count - 1:
            ramp = np.minimum(ramp, inside[::-1] / max(1, overlap))
        yield slice(start, start + span), ramp
