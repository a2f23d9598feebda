"""The face that a net shows to its callers, as a module that can be exported; see `Graph`."""

from __future__ import annotations

from collections.abc import Sequence

from allfocus.export.deep_faces import Frame16Face, YuvFace
from allfocus.export.plain_faces import FloatFace, FrameFace
from allfocus.runtime.spec import Graph, Io
from allfocus.train.models.base import Net

PREFIX = "net."  # of the net's parameters within a face

_FACES: dict[Io, type[FloatFace]] = {
    "float": FloatFace,
    "frame": FrameFace,
    "frame16": Frame16Face,
    "nv12": YuvFace,
    "p010": YuvFace,
}


def face(net: Net, graph: Graph, kept: Sequence[str] = ()) -> FloatFace:
    """The face of `net` that `graph` describes, in fp16 without the layers `kept` (see `lowered`).

    `net` itself is left as it is.
    """
    return _FACES[graph.io](net, graph, kept)
