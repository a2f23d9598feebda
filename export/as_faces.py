"""A net's inputs and outputs as each face shows them, in plain NumPy and not by the faces' code, so
that a mistake there shows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from allfocus.export.samples import Arrays, Tensors
from allfocus.runtime.layout import as_frame, as_tensor, frame_layout
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import YUV, Graph
from allfocus.runtime.ycbcr import black, from_rgb

Array = NDArray[Any]

_BITS = {"nv12": 8, "p010": 10}
_P010_STEP = 64
_WHITE = 65535


def given(tensors: Tensors, graph: Graph) -> Arrays:
    """Inputs in the net's layout as the face of `graph` takes them."""
    return {name: _given(name, each.numpy(), graph) for name, each in tensors.items()}


def seen(arrays: Arrays, graph: Graph) -> Tensors:
    """The inverse of `given`: what the net gets of `arrays`, float32."""
    found = {name: _seen(name, each, graph) for name, each in arrays.items()}
    return {name: torch.from_numpy(each) for name, each in found.items()}


def answered(tensors: Tensors, arrays: Arrays, graph: Graph) -> Arrays:
    """Outputs in the net's layout, of the inputs `arrays`, as the face of `graph` shows them."""
    before = next(array for name, array in arrays.items() if KINDS[name] == "picture")
    return {name: _answered(name, each.numpy(), before, graph) for name, each in tensors.items()}


def _given(name: str, values: Array, graph: Graph) -> Array:
    if KINDS[name] != "picture" or graph.io == "float":
        return _plain(name, values, graph)
    rgb = np.clip(values[0].astype(np.float64), 0, 1)
    if graph.io in YUV:
        return _from_levels(name, np.rint(_yuv(rgb, graph) + _black(rgb.shape, graph)), graph)
    white = 255 if graph.io == "frame" else _WHITE
    return _from_levels(name, np.rint(_colour(rgb, graph) * white), graph)


def _seen(name: str, array: Array, graph: Graph) -> Array:
    if KINDS[name] == "plane":
        return np.ascontiguousarray(array.reshape(1, 1, *array.shape[-2:]))
    if KINDS[name] != "picture" or graph.io == "float":
        return np.ascontiguousarray(array)
    levels = _levels(name, array, graph)
    if graph.io in YUV:
        rgb = _rgb(levels - _black((3, 2 * levels.shape[0] // 3, levels.shape[1]), graph), graph)
    else:
        white = 255 if graph.io == "frame" else _WHITE
        ordered = levels[..., ::-1] if graph.color == "bgr" else levels
        rgb = np.moveaxis(ordered, 2, 0) / white
    return np.ascontiguousarray(np.clip(rgb, 0, 1)[None], np.float32)


def _answered(name: str, values: Array, before: Array, graph: Graph) -> Array:
    """Levels of 8 bits are rounded; to others, what changed is added."""
    if KINDS[name] != "picture" or graph.io in ("float", "frame"):
        return _given(name, values, graph)
    change = np.clip(values[0].astype(np.float64), 0, 1) - _seen("image", before, graph)[0]
    came = _levels("image", before, graph)
    moved = _yuv(change, graph) if graph.io in YUV else _colour(change, graph) * _WHITE
    return _from_levels(name, came + np.rint(moved), graph)


def _plain(name: str, values: Array, graph: Graph) -> Array:
    flat = KINDS[name] == "plane" and graph.io != "float"
    return np.ascontiguousarray(values[:, 0] if flat else values)


def _colour(rgb: Array, graph: Graph) -> Array:
    """[3, H, W] -> [H, W, 3] in the graph's order."""
    return np.moveaxis(rgb[::-1] if graph.color == "bgr" else rgb, 0, 2)


def _yuv(rgb: Array, graph: Graph) -> Array:
    """Differences in RGB [3, H, W] as those in levels [3H/2, W]."""
    rows = from_rgb(graph.matrix, graph.range, _BITS[graph.io])
    luma, blue, red = np.einsum("ij,jhw->ihw", rows, rgb)
    height, width = luma.shape
    pairs = np.stack([blue, red]).reshape(2, height // 2, 2, width // 2, 2).mean((2, 4))
    return np.concatenate([luma, np.moveaxis(pairs, 0, 2).reshape(height // 2, width)])


def _rgb(levels: Array, graph: Graph) -> Array:
    """The inverse, [3H/2, W] -> [3, H, W]: each sample of chroma stands for four pixels."""
    height = 2 * levels.shape[0] // 3
    pairs = levels[height:].reshape(height // 2, -1, 2).repeat(2, axis=0).repeat(2, axis=1)
    whole = np.concatenate([levels[None, :height], np.moveaxis(pairs, 2, 0)])
    rows = np.linalg.inv(from_rgb(graph.matrix, graph.range, _BITS[graph.io]))
    return np.asarray(np.einsum("ij,jhw->ihw", rows, whole))


def _black(shape: tuple[int, ...], graph: Graph) -> Array:
    """A black picture [3, H, W] in levels [3H/2, W]."""
    luma, blue, red = black(graph.range, _BITS[graph.io])
    _, height, width = shape
    chroma = np.tile([blue, red], (height // 2, width // 2))
    return np.concatenate([np.full((height, width), luma), chroma])


def _levels(name: str, tensor: Array, graph: Graph) -> Array:
    """A picture of the graph as numbers, without the leading 1; p010's low bits are a fraction."""
    levels = as_frame(name, tensor, graph.io)[0].astype(np.float64)
    return np.asarray(levels / _P010_STEP if graph.io == "p010" else levels)


def _from_levels(name: str, levels: Array, graph: Graph) -> Array:
    """The inverse, with whole levels clipped."""
    step = _P010_STEP if graph.io == "p010" else 1
    kind = frame_layout(name, graph.io).dtype
    top = np.iinfo(kind).max // step
    clipped = np.clip(np.floor(levels), 0, top) + levels % 1
    return as_tensor(name, np.ascontiguousarray(clipped[None] * step, kind), graph.io)
