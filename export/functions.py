"""The two operations of `allfocus.kernels` as ONNX functions of standard operators.

They compute what kernels/reference.py does, in float32 whatever the type of the tensors, and for
any N, C, H and W. Infinity or NaN in the image of `isotropic_conv` may come out as NaN within the
kernel's reach, also where the reference has infinity: a convolution multiplies it by 0 as well.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from onnx import FunctionProto

from allfocus.export.body import Body
from allfocus.kernels.taps import Tap, taps

Matrix = NDArray[np.float64]


@lru_cache(maxsize=16)
def isotropic_conv(name: str, levels: int) -> FunctionProto:
    """The function (image, seeds, weights) -> image; `levels` is m, at least 2.

    Levels are added up from the largest to the smallest. Once level i is in, no other level
    reaches the outermost rings of that sum, those at dx = i - 1, and the image is summed over them
    and multiplied: no more than one level's kernel and one such group of rings are held at a time.
    """
    body = Body(name, "image", "seeds", "weights")
    image, seeds, weights = body.inputs()
    seeds_of = body.split(seeds, range(2, levels + 1))
    share_of = body.split(weights, [1] * levels)
    planes = _Planes(body, image)
    inner, blurred = "", ""
    for level in range(levels, 1, -1):
        kernel = _kernel(body, level, seeds_of[level - 2], share_of[level - 1])
        kernel = body("Add", kernel, inner) if inner else kernel
        inner, outer = body.split(kernel, [level * (level - 1) // 2, level])
        part = planes.blur(level, outer)
        blurred = body("Add", blurred, part) if blurred else part
    centre = body("Mul", image, body("Add", inner, share_of[0]))
    return body.finish(body("Add", blurred, centre))


@lru_cache(maxsize=16)
def sft_modulate(name: str, *, spatial: bool, activation: str) -> FunctionProto:
    """The function (features, gamma, [gamma_s,] beta) -> features, with the attribute `slope`.

    `activation`: "none", "relu" or "leaky", of which only the last looks at `slope`.
    """
    body = Body(name, "features", "gamma", *(["gamma_s"] if spatial else []), "beta")
    features, *gammas, beta = body.inputs()
    for gamma in gammas:
        features = body("Mul", features, gamma)
    result = body("Add", features, beta)
    if activation == "relu":
        result = body("Relu", result)
    elif activation == "leaky":
        result = body("LeakyRelu", result)
        body.refer("alpha", "slope")
    return body.finish(result, ["slope"])


class _Planes:
    """The image's channels as pictures of their own, and their sums over rings of pixels."""

    def __init__(self, body: Body, image: str) -> None:
        self._body = body
        self._apart = body("Reshape", image, body.integers(-1, 1, 0, 0))  # [N*C, 1, H, W]
        batch = body("Shape", image, start=0, end=1)
        self._together = body("Concat", batch, body.integers(-1, 0, 0, 0), axis=0)
        self._axes = [body.integers(axis) for axis in range(3)]

    def blur(self, level: int, outer: str) -> str:
        """The image's ring sums at dx = level - 1, times `outer` [N, level, H, W], added up."""
        body, (first, second, third) = self._body, self._axes
        rings = body.weights(_ring_filters(level))
        sums = body("Conv", self._apart, rings, pads=[level - 1] * 4)  # [N*C, level, H, W]
        # 0 keeps the extent at the same place, so the axes are brought to their places first.
        sums = body("Reshape", body("Unsqueeze", sums, first), self._together)  # [N, C, level, ...]
        products = body("Mul", sums, body("Unsqueeze", outer, second))
        return body("ReduceSum", products, third, keepdims=0)


def _kernel(body: Body, level: int, seeds: str, share: str) -> str:
    """The softmax of level i times its share: a value for each ring, [N, i(i+1)/2, H, W].

    No element exceeds the largest seed, each of which is an element itself: with it subtracted,
    no exponential overflows.
    """
    rings = taps(level)
    radial = body("Abs", seeds)
    highest = body("ReduceMax", radial, body.integers(1))
    values = body("Conv", radial, body.weights(_as_filters(_interpolation(level, rings))))
    raised = body("Exp", body("Sub", values, highest))
    counts = np.array([[len(ring.offsets) for ring in rings]], np.float64)
    total = body("Conv", raised, body.weights(_as_filters(counts)))
    return body("Mul", raised, body("Div", share, total))


def _interpolation(level: int, rings: tuple[Tap, ...]) -> Matrix:
    """[ring, seed]: how much of each seed a ring's value is made of."""
    matrix = np.zeros((len(rings), level))
    for row, ring in zip(matrix, rings, strict=True):
        if ring.inner is not None:
            row[ring.inner] = 1 - ring.fraction
            if ring.fraction:
                row[ring.inner + 1] = ring.fraction
    return matrix


def _ring_filters(level: int) -> Matrix:
    """Filters [level, 1, 2i-1, 2i-1] that sum over one ring each, those at dx = i - 1."""
    filters = np.zeros((level, 1, 2 * level - 1, 2 * level - 1))
    for plane, ring in zip(filters, taps(level)[-level:], strict=True):
        for y, x in ring.offsets:
            plane[0, level - 1 + y, level - 1 + x] = 1
    return filters


def _as_filters(matrix: Matrix) -> Matrix:
    """A matrix over channels as the weights of a 1x1 convolution."""
    return matrix[:, :, None, None]
