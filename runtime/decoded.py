"""Pictures as colours in [0, 1], whatever face they have: to look at them, on the host."""

from __future__ import annotations

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.form import form_of
from allfocus.runtime.frame import peak
from allfocus.runtime.spec import YUV, Graph
from allfocus.runtime.ycbcr import black, from_rgb

_BITS = {"nv12": 8, "p010": 10}


def colours(picture: Array, graph: Graph) -> Array:
    """A picture as it lies beside `graph`, as float32 [H, W, 3] in [0, 1].

    Channels stay in their order; luma and chroma become RGB, chroma interpolated between its
    samples, and what no colour has is clipped.
    """
    if graph.io not in YUV:
        return picture.astype(np.float32) / np.float32(peak(picture.dtype))
    form, bits = form_of("image", graph.io), _BITS[graph.io]
    (luma, _), (chroma, _) = form.parts(picture)
    height, width = luma.shape
    whole = np.dstack((luma, cv2.resize(chroma, (width, height), interpolation=cv2.INTER_LINEAR)))
    samples = whole.astype(np.float32) / np.float32(form.step) - black(graph.range, bits)
    rgb = samples @ np.linalg.inv(from_rgb(graph.matrix, graph.range, bits)).T
    return np.clip(rgb, 0, 1).astype(np.float32)
