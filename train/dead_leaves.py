"""Dead leaves: shapes of all sizes fallen over one another. Pictures for training without photos.

Covering a plane with shapes whose radii follow r^-3 gives the statistics of natural pictures: edges
at all scales, one thing in front of another (Lee, Mumford and Huang, IJCV 2001). Each leaf has a
colour of the picture's palette and a grain or stripes.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.train.camera import Image, clip

Canvas = NDArray[np.uint8]
_Labels = NDArray[np.uint16]
_OVERSAMPLED = 2  # drawn so many times larger, then averaged: edges sharp to the pixel
_MOST = 700  # leaves in a picture
_POINTS = 24  # of an outline; whole multiples of 3, 4 and 6, so that corners are met
_CORNERS = (3, 4, 6, 0, 0, 0)  # 0: round


def draw_leaves(rng: np.random.Generator, side: int) -> Canvas:
    """A picture [side, side, 3], uint8 RGB, drawn from `rng` alone."""
    large = side * _OVERSAMPLED
    smallest = _OVERSAMPLED * 1.5 * 5 ** rng.random()
    labels, count = _fallen(rng, large, smallest, large / 3)
    colours = _palette(rng, count)
    picture = np.take(colours, labels, axis=0)
    picture += _texture(rng, labels, count)[..., None]
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def draw_cover(rng: np.random.Generator, side: int) -> Image:
    """Coverage [side, side] in [0, 1] of a few large leaves with gaps between them."""
    large = side * _OVERSAMPLED
    canvas: _Labels = np.zeros((large, large), np.uint16)
    count = int(rng.integers(1, 7))
    for outline in _outlines(rng, large, rng.uniform(0.06, 0.3, count) * large):
        cv2.fillPoly(canvas, [outline], 1)
    small = cv2.resize(canvas.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return clip(small)


def _fallen(
    rng: np.random.Generator, side: int, smallest: float, largest: float
) -> tuple[_Labels, int]:
    """Which leaf is on top, [side, side], and how many there are (0 is the ground)."""
    # The inverse of the distribution function of a density that falls with r^-3.
    low, high = smallest**-2, largest**-2
    radii = (low + rng.random(_MOST) * (high - low)) ** -0.5
    enough = np.searchsorted(np.cumsum(math.pi * radii**2), 3.0 * side**2) + 1
    canvas: _Labels = np.zeros((side, side), np.uint16)
    outlines = _outlines(rng, side, radii[:enough])
    for label, outline in enumerate(outlines, start=1):
        cv2.fillConvexPoly(canvas, outline, label)
    return canvas, len(outlines) + 1


def _outlines(rng: np.random.Generator, side: int, radii: NDArray[np.float64]) -> NDArray[np.int32]:
    """Polygons [N, 24, 2] of whole pixels: round or with corners, stretched and turned."""
    count = len(radii)
    corners = rng.choice(_CORNERS, count)[:, None]
    angle = np.linspace(0, 2 * math.pi, _POINTS, endpoint=False)[None]
    wedge = 2 * math.pi / np.maximum(corners, 1)
    bend = np.cos(wedge / 2) / np.cos(angle % wedge - wedge / 2)
    reach = np.where(corners > 0, bend, 1.0) * radii[:, None]
    stretch = rng.uniform(0.4, 1.0, count)[:, None]
    turn = rng.uniform(0, 2 * math.pi, count)[:, None]
    x, y = reach * np.cos(angle), stretch * reach * np.sin(angle)
    turned = np.stack((x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)), 2)
    return np.rint(turned + rng.uniform(0, side, (count, 1, 2))).astype(np.int32)


def _palette(rng: np.random.Generator, count: int) -> Image:
    """A colour [count, 3], 0 to 255, for each leaf: near one of a few of the picture."""
    few = rng.uniform(0, 255, (int(rng.integers(3, 9)), 3))
    grey = few.mean(axis=1, keepdims=True)
    few = grey + rng.random() ** 0.7 * (few - grey)  # most things are less colourful than paint
    own = rng.normal(0, 10 * 4 ** rng.random(), (count, 1)) + rng.normal(0, 6, (count, 3))
    return np.asarray(few[rng.integers(len(few), size=count)] + own, np.float32)


def _texture(rng: np.random.Generator, labels: _Labels, count: int) -> Image:
    """Brightness [side, side] to add: each leaf has grain or stripes, strong or none."""
    side = len(labels)
    strength = (40 * rng.random((2, count)) ** 3).astype(np.float32)
    grain, stripes = _grain(rng, side), _stripes(rng, side)
    return np.asarray(
        np.take(strength[0], labels) * grain + np.take(strength[1], labels) * stripes, np.float32
    )


def _grain(rng: np.random.Generator, side: int) -> Image:
    """Noise [side, side] with as much at each octave, from 1 to 8 pixels, of a standard deviation
    of about 0.65: enlarging takes some."""
    total = np.zeros((side, side), np.float32)
    for octave in range(1, 5):
        cells = -(-side // 2**octave)
        noise = rng.standard_normal((cells, cells), dtype=np.float32)
        total += cv2.resize(noise, (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(total / 2, np.float32)


def _stripes(rng: np.random.Generator, side: int) -> Image:
    """A wave [side, side] from -1 to 1, 4 to 24 pixels of the finished picture long."""
    angle, period = rng.uniform(0, math.pi), _OVERSAMPLED * 4 * 6 ** rng.random()
    steps = np.arange(side, dtype=np.float32) * (2 * math.pi / period)
    phase = np.add.outer(math.sin(angle) * steps, math.cos(angle) * steps)
    return np.asarray(np.sin(phase), np.float32)
