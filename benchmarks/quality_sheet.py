"""A sheet of crops to look at: input, every output, and the truth, side by side."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks.candidates import Output
from allfocus.train.evaluation_pair import Frame, Pair

PICTURES = 6  # rows of the sheet, at most
SIDE, ZOOM = 112, 2  # of a crop, in pixels, and how many times as large it is shown
_GAP, _HEAD = 6, 22  # pixels
_PAPER, _INK = 255, (29, 39, 48)


class Sheet:
    """Collects crops while candidates are judged; `draw` makes the picture."""

    def __init__(self, pictures: int) -> None:
        count = min(PICTURES, pictures)
        self._rows = {round(i * (pictures - 1) / max(1, count - 1)): i for i in range(count)}
        self._cells: dict[str, dict[int, Frame]] = {}
        self._truth: dict[int, Frame] = {}

    def look(self, name: str, index: int, pair: Pair, output: Output) -> None:
        """Keep the crop of `output` of the candidate `name`, where picture `index` is shown."""
        row = self._rows.get(index)
        if row is None:
            return
        window = most_different(pair)
        self._truth[row] = _truth(pair)[window]
        self._cells.setdefault(name, {})[row] = _shown(output, pair)[window].copy()

    def draw(self) -> Frame:
        """The sheet, uint8 RGB: a row for each picture, a column for each candidate and the truth.

        Crops are enlarged by repeating pixels, so that what is seen is what is there.
        """
        columns = [*self._cells.items(), ("truth", self._truth)]
        return np.hstack([column(name, cells, SIDE, ZOOM) for name, cells in columns])


def most_different(pair: Pair) -> tuple[slice, slice]:
    """The window of at most SIDE x SIDE pixels in which input and truth differ most.

    Without a truth, that with as much in focus as not.
    """
    if pair.sharp is not None:
        change = np.abs(pair.blurry.astype(np.float32) - pair.sharp).mean(axis=2)
    else:
        assert pair.in_focus is not None
        change = np.abs(cv2.blur(pair.in_focus.astype(np.float32), (SIDE, SIDE)) - 0.5)
        change = np.float32(0.5) - change
    height, width = (min(SIDE, side) for side in change.shape)
    sums = cv2.integral(change, sdepth=cv2.CV_64F)
    inside = sums[height:, width:] - sums[height:, :-width] - sums[:-height, width:]
    inside = inside + sums[:-height, :-width]
    top, left = (int(place) for place in np.unravel_index(np.argmax(inside), inside.shape))
    return slice(top, top + height), slice(left, left + width)


def _truth(pair: Pair) -> Frame:
    """The sharp picture or, where there is none, the mask: white in focus."""
    if pair.sharp is not None:
        return pair.sharp
    assert pair.in_focus is not None
    return np.repeat(_levels(pair.in_focus.astype(np.float32))[..., None], 3, axis=2)


def _shown(output: Output, pair: Pair) -> Frame:
    """The output's picture or, without one, its map in grey: white in focus."""
    if output.image is not None:
        return _levels(output.image) if output.image.dtype != np.uint8 else output.image
    plane = output.focus
    if plane is None:
        assert output.defocus is not None, f"{pair.name}: neither a picture nor a map"
        plane = 1 - output.defocus / max(1.0, float(output.defocus.max()))
    return np.repeat(_levels(plane)[..., None], 3, axis=2)


def _levels(values: NDArray[np.float32]) -> Frame:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


def column(name: str, cells: dict[int, Frame], side: int, zoom: int) -> Frame:
    """Crops of at most `side` pixels, `zoom` times as large, below one another and their name."""
    side *= zoom
    parts = [_title(name, side)]
    for row in sorted(cells):
        crop = np.repeat(np.repeat(cells[row], zoom, axis=0), zoom, axis=1)
        place = np.full((side + _GAP, side + _GAP, 3), _PAPER, np.uint8)
        place[: crop.shape[0], : crop.shape[1]] = crop
        parts.append(place)
    return np.vstack(parts)


def _title(name: str, side: int) -> Frame:
    head = np.full((_HEAD, side + _GAP, 3), _PAPER, np.uint8)
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (width, _), _ = cv2.getTextSize(name, font, scale, 1)
    scale *= min(1.0, side / max(1, width))
    cv2.putText(head, name, (0, 15), font, scale, _INK, 1, cv2.LINE_AA)
    return head
