"""Before, after and defocus map side by side, and enlarged where most was changed."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # [H, W, 3], BGR

ZOOM = 3  # of the second row
_GAP, _TITLE, _SCALE = 12, 34, 46  # pixels
_PAPER, _INK = (255, 255, 255), (48, 39, 29)
_TITLES = ("before", "after", "estimated defocus")
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def compose(before: Frame, after: Frame, defocus: NDArray[np.float32] | None) -> Frame:
    """One picture of all panels and their enlarged details; `defocus` is [H, W] in pixels."""
    images = [before, after]
    bar = _blank(_SCALE, before.shape[1])
    if defocus is not None:
        top = scale_top(defocus)
        images.append(colors(defocus, top))
        bar = scale_bar(before.shape[1], top)
    crop = most_changed(before, after)
    outlined = (_outlined(image, crop) for image in images)
    first = _row([_titled(i, t) for i, t in zip(outlined, _TITLES, strict=False)])
    second = _row([_enlarged(image[crop], image.shape) for image in images])
    foot = _right_aligned(bar, first.shape[1])
    _write(foot, f"second row: the outlined detail, {ZOOM} times as large", 0, 14, 0.45)
    gap = _blank(_GAP, first.shape[1])
    rows = (gap, first, gap, second, gap, foot)
    side = _blank(sum(row.shape[0] for row in rows), _GAP)
    return np.hstack((side, np.vstack(rows), side))


def scale_top(defocus: NDArray[np.float32]) -> float:
    """The blur radius, in whole pixels, that the colours end at: 99.5 % of the map lie below."""
    return float(max(1, math.ceil(np.percentile(defocus, 99.5))))


def colors(defocus: NDArray[np.float32], top: float) -> Frame:
    """A map [H, W] in colours: dark in focus, bright at `top` pixels and above."""
    levels = np.rint(np.clip(defocus / top, 0, 1) * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), np.uint8)


def most_changed(before: Frame, after: Frame) -> tuple[slice, slice]:
    """Rows and columns of the window, 1/ZOOM of the picture, in which the two differ most."""
    change = np.abs(before.astype(np.float32) - after).mean(axis=2)
    height, width = (max(1, side // ZOOM) for side in change.shape)
    sums = cv2.integral(change)
    inside = sums[height:, width:] - sums[height:, :-width] - sums[:-height, width:]
    inside = inside + sums[:-height, :-width]
    row, column = (int(i) for i in np.unravel_index(np.argmax(inside), inside.shape))
    return slice(row, row + height), slice(column, column + width)


def scale_bar(width: int, top: float) -> Frame:
    """The colours of `colors` from 0 to `top`, labelled in pixels of blur radius."""
    bar = _blank(_SCALE, width)
    ramp = np.tile(np.linspace(0, top, width, dtype=np.float32), (14, 1))
    bar[:14] = colors(ramp, top)
    labels = (("0", 0.0), ("blur radius in pixels", 0.5), (f"{top:g}", 1.0))
    for text, place in labels:
        (text_width, _), _ = cv2.getTextSize(text, _FONT, 0.45, 1)
        _write(bar, text, round(place * (width - text_width)), 32, 0.45)
    return bar


def _outlined(image: Frame, crop: tuple[slice, slice]) -> Frame:
    rows, columns = crop
    corners = (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)
    return np.asarray(cv2.rectangle(image.copy(), *corners, _PAPER, 1), np.uint8)


def _titled(image: Frame, title: str) -> Frame:
    head = _blank(_TITLE, image.shape[1])
    _write(head, title, 0, 22, 0.65)
    return np.vstack((head, image))


def _enlarged(crop: Frame, shape: tuple[int, ...]) -> Frame:
    size = (shape[1], round(crop.shape[0] * shape[1] / crop.shape[1]))
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _row(images: list[Frame]) -> Frame:
    gap = _blank(images[0].shape[0], _GAP)
    first, *others = images
    return np.hstack((first, *(part for image in others for part in (gap, image))))


def _right_aligned(image: Frame, width: int) -> Frame:
    return np.hstack((_blank(image.shape[0], width - image.shape[1]), image))


def _blank(height: int, width: int) -> Frame:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _write(image: Frame, text: str, x: int, y: int, size: float) -> None:
    cv2.putText(image, text, (x, y), _FONT, size, _INK, 1, cv2.LINE_AA)
