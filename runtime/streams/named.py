"""A source by the word that a command line has for it."""

from __future__ import annotations

import re
from pathlib import Path

from allfocus.runtime.spec import Graph
from allfocus.runtime.streams.camera import Camera, check_taker
from allfocus.runtime.streams.frames import Source
from allfocus.runtime.streams.video import VideoSource

_CAMERA = "camera:"
# not C:// of Windows; what is in a file is no camera's
_ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_camera(text: str) -> bool:
    """Whether `text` names a camera: camera:0, camera:ADDRESS, or an address such as rtsp://."""
    return text.startswith(_CAMERA) or _ADDRESS.match(text) is not None


def named(text: str, taker: Graph, *, patience: float) -> Source:
    """The camera or the video file `text`, whose frames the graph `taker` takes.

    `patience` as in Camera. Raises UsageError for a camera and a graph that takes what a decoder
    gives, and what VideoSource raises.
    """
    if not is_camera(text):
        return VideoSource(Path(text), taker)
    check_taker(text, taker)
    where = text.removeprefix(_CAMERA)
    return Camera(int(where) if where.isdecimal() else where, patience=patience)
