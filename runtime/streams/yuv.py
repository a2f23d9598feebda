"""Putting a result back into a decoded frame of luma and chroma, so that what did not change stays.

A video holds Y'CbCr, mostly with a chroma sample for two or four pixels; the way to R'G'B' and back
rounds and smooths all of it. So the *difference* between result and frame is brought over, which is
linear, and added to the decoded samples: where it is zero they stay as they are, to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.frame import peak
from allfocus.runtime.spec import Matrix, Range
from allfocus.runtime.ycbcr import from_rgb

_MATRICES: dict[int, Matrix] = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020"}  # AVColorSpace
_OTHERS: Matrix = "bt601"  # what swscale takes where nothing is said
_RANGES: dict[int, Range] = {1: "limited", 2: "full"}  # AVColorRange


@dataclass(frozen=True)
class Samples:
    """How a pixel format of planes stores a picture."""

    across: int  # pixels of a row that share a chroma sample
    down: int  # rows that do
    bits: int


FORMATS = {
    f"{kind}{chroma}p{depth}": Samples(across, down, bits)
    for chroma, across, down in (("420", 2, 2), ("422", 2, 1), ("444", 1, 1))
    for kind, depth, bits in (
        ("yuv", "", 8),
        ("yuvj", "", 8),
        ("yuv", "10le", 10),
        ("yuv", "12le", 12),
    )
}


def matrix(colorspace: int, full_range: bool, bits: int) -> Array:
    """From a difference in R'G'B' of [0, 1] to one in samples: [3, 3], rows Y', Cb, Cr."""
    name = _MATRICES.get(colorspace, _OTHERS)
    return from_rgb(name, "full" if full_range else "limited", bits)


def named(colorspace: int, color_range: int) -> tuple[Matrix | None, Range | None]:
    """FFmpeg's numbers as a graph names them; None where nothing is said."""
    return _MATRICES.get(colorspace), _RANGES.get(color_range)


def samples_of(plane: Any, kind: np.dtype[Any]) -> Array:
    """A plane's rows of samples, with what fills them up: a view."""
    return np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)


def changed(frame: Any, before: Array, after: Array) -> Any:
    """A copy of the `av.VideoFrame` `frame` with the change from `before` to `after` in it.

    Both are BGR [H, W, 3] of the frame's size. The pixel format is one of FORMATS.
    """
    import av

    samples = FORMATS[frame.format.name]
    full = frame.format.name.startswith("yuvj") or _RANGES.get(frame.color_range) == "full"
    rows = matrix(int(frame.colorspace), full, samples.bits)[:, ::-1] / peak(before.dtype)
    difference = after.astype(np.float32) - before
    delta = np.asarray(cv2.transform(difference, rows.astype(np.float32)))
    out = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for index, (plane, source) in enumerate(zip(out.planes, frame.planes, strict=True)):
        part = np.ascontiguousarray(delta[..., index])
        if index:
            part = _averaged(part, samples)
        _fill(plane, source, part, samples.bits)
    for name in ("colorspace", "color_range"):
        setattr(out, name, getattr(frame, name))
    return out


def _averaged(part: Array, samples: Samples) -> Array:
    """The mean of the pixels that share a sample; the last ones are repeated where some lack."""
    height, width = part.shape
    below, right = -height % samples.down, -width % samples.across
    if below or right:
        part = cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REPLICATE)
    size = (part.shape[1] // samples.across, part.shape[0] // samples.down)
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA))


def _fill(plane: Any, source: Any, part: Array, bits: int) -> None:
    """Write `source` plus `part` into `plane`."""
    kind = np.dtype(np.uint8 if bits == 8 else "<u2")
    height, width = part.shape
    old, new = (samples_of(each, kind)[:height, :width] for each in (source, plane))
    new[...] = np.clip(np.rint(old + part), 0, (1 << bits) - 1)
