"""Printed matter drawn at random: posters, signs, screens. Flat colours, hard edges, small letters.

Photos of nature and buildings hold little of it, and a net that has seen none rings at its edges,
where the contrast is higher than anywhere else.
"""

from __future__ import annotations

import string

import cv2
import numpy as np
from numpy.typing import NDArray

Canvas = NDArray[np.uint8]
_OVERSAMPLED = 3  # drawn so many times larger, then averaged: edges sharp to the pixel
_LETTERS = string.ascii_letters + string.digits + ".,:;!?()*&%-"
_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)


def draw_graphics(rng: np.random.Generator, side: int) -> Canvas:
    """A picture [side, side, 3], uint8 RGB, drawn from `rng` alone."""
    large = side * _OVERSAMPLED
    canvas = np.full((large, large, 3), _color(rng), np.uint8)
    for _ in range(int(rng.integers(2, 9))):
        _add_shape(rng, canvas)
    for _ in range(int(rng.integers(1, 5))):
        _add_text(rng, canvas)
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    """Any colour, or near one of the corners of RGB: black, white, the saturated ones."""
    if rng.random() < 0.5:
        red, green, blue = rng.integers(0, 256, 3)
    else:
        red, green, blue = np.clip(255 * rng.integers(0, 2, 3) + rng.integers(-40, 41, 3), 0, 255)
    return int(red), int(green), int(blue)


def _add_shape(rng: np.random.Generator, canvas: Canvas) -> None:
    """A polygon, an ellipse, or a line, filled or not."""
    large = len(canvas)
    kind, color = rng.integers(3), _color(rng)
    points = rng.integers(-large // 4, large + large // 4, (int(rng.integers(3, 6)), 2))
    if kind == 0:
        cv2.fillPoly(canvas, [points.astype(np.int32)], color, cv2.LINE_AA)
        return
    thick = int(rng.integers(1, 5 * _OVERSAMPLED))
    (x, y), (far_x, far_y) = points[0].tolist(), points[1].tolist()
    if kind == 1:
        axes = (1 + abs(far_x - x) // 3, 1 + abs(far_y - y) // 3)
        turn = float(rng.uniform(0, 180))
        fill = -1 if rng.random() < 0.5 else thick
        cv2.ellipse(canvas, (x, y), axes, turn, 0, 360, color, fill, cv2.LINE_AA)
    else:
        cv2.line(canvas, (x, y), (far_x, far_y), color, thick, cv2.LINE_AA)


def _add_text(rng: np.random.Generator, canvas: Canvas) -> None:
    """A few lines of letters, 5 to 40 pixels high in the finished picture, at any angle."""
    large = len(canvas)
    height = _OVERSAMPLED * 5 * 8 ** rng.random()
    font, thick = _FONTS[int(rng.integers(len(_FONTS)))], max(1, round(height / rng.uniform(6, 14)))
    scale = cv2.getFontScaleFromHeight(font, round(height), thick)
    ink = np.zeros((large, large), np.uint8)
    left, top = int(rng.integers(-large // 2, large // 2)), int(rng.integers(large))
    for line in range(int(rng.integers(1, 6))):
        words = "".join(rng.choice(list(_LETTERS + "      "), int(rng.integers(4, 40))))
        place = (left, round(top + 1.6 * line * height))
        cv2.putText(ink, words, place, font, scale, 255, thick, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((large / 2, large / 2), float(rng.normal(0, 15)), 1.0)
    share = cv2.warpAffine(ink, turn, (large, large)).astype(np.float32)[..., None] / 255
    color = np.array(_color(rng), np.float32)
    canvas[...] = np.rint(canvas + share * (color - canvas)).astype(np.uint8)
