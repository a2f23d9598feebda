"""A decoded frame as NV12 or P010 has it, for graphs that take luma and chroma, and back.

FFmpeg keeps the two samples of chroma in planes of their own, a graph takes them beside each other:
samples are moved, none is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import UsageError
from allfocus.runtime.form import form_of
from allfocus.runtime.spec import Graph, Size
from allfocus.runtime.streams import ffmpeg, yuv
from allfocus.runtime.ycbcr import P010_STEP


@dataclass(frozen=True)
class _Kind:
    """How a face's samples lie in a frame of FFmpeg."""

    format: str
    dtype: np.dtype[Any]
    factor: int  # from FFmpeg's samples to the face's
    others: tuple[str, ...]  # formats that become such a frame without loss


_EIGHT = ("yuv420p", "yuvj420p", "nv12")
_KINDS = {
    "nv12": _Kind("yuv420p", np.dtype(np.uint8), 1, _EIGHT),
    "p010": _Kind("yuv420p10le", np.dtype("<u2"), P010_STEP, (*_EIGHT, "yuv420p10le", "p010le")),
}


def check(what: str, form: str, size: Size, colours: tuple[int, int], graph: Graph) -> None:
    """Raise UsageError where frames of a pixel format and `size` cannot go into `graph` as they
    are.

    `colours` are FFmpeg's numbers for matrix and range; what says nothing of them fits.
    """
    if form not in _KINDS[graph.io].others:
        deeper = graph.io == "nv12" and form in _KINDS["p010"].others
        mend = "one exported with `--io p010`" if deeper else "a model without --io"
        raise UsageError(
            f"{what} holds pixels as {form}, which {graph.io} would not hold: take {mend}"
        )
    if size.width % 2 or size.height % 2:
        raise UsageError(
            f"{what}: {graph.io} takes even sizes, and this is {size}: crop it, or take a model "
            "without --io"
        )
    said, wanted = yuv.named(*colours), (graph.matrix, graph.range)
    matrix, limits = said[0] or graph.matrix, said[1] or graph.range
    if (matrix, limits) != wanted:
        raise UsageError(
            f"{what} holds {matrix} {limits}, and the model takes {graph.matrix} {graph.range}: "
            f"export it with `--io {graph.io} --matrix {matrix} --range {limits}`"
        )


def taken(decoded: Any, graph: Graph) -> Array:
    """The `av.VideoFrame` `decoded` as `graph` takes it, [3H/2, W]."""
    kind = _KINDS[graph.io]
    frame = decoded if decoded.format.name == kind.format else decoded.reformat(format=kind.format)
    form, size = form_of("image", graph.io), Size(frame.width, frame.height)
    out = np.empty((3 * size.height // 2, size.width), kind.dtype)
    (luma, _), (chroma, _) = form.parts(out)
    luma[...] = _samples(frame.planes[0], kind, luma.shape)
    for index in (0, 1):
        chroma[..., index] = _samples(frame.planes[1 + index], kind, chroma.shape[:2])
    if kind.factor > 1:
        out *= kind.dtype.type(kind.factor)
    return out


def given_back(decoded: Any, image: Array, graph: Graph) -> Any:
    """The inverse for a result of the same size: an `av.VideoFrame` with the tags of `decoded`."""
    kind = _KINDS[graph.io]
    (luma, _), (chroma, _) = form_of("image", graph.io).parts(image)
    height, width = luma.shape
    frame = ffmpeg.load().VideoFrame(width, height, kind.format)
    for plane, part in zip(frame.planes, (luma, chroma[..., 0], chroma[..., 1]), strict=True):
        _samples(plane, kind, part.shape)[...] = part // kind.factor
    for name in ("colorspace", "color_range"):
        setattr(frame, name, getattr(decoded, name))
    return frame


def _samples(plane: Any, kind: _Kind, shape: tuple[int, ...]) -> Array:
    """A plane's samples, [h, w]: a view."""
    height, width = shape
    return yuv.samples_of(plane, kind.dtype)[:height, :width]
