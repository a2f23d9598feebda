"""GStreamer pipelines through PyGObject, for an OpenCV that was built without GStreamer.

The wheels of OpenCV on PyPI are; PyGObject comes with distributions and from PyPI.
"""

from __future__ import annotations

import logging
from importlib import import_module
from threading import Event
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import BackendError, UsageError

log = logging.getLogger("allfocus")

_PARTS = ("Gst", "GstApp", "GstVideo")
_CAPS = "video/x-raw,format=BGR"
_LOOK = 0.1  # seconds between looks at whether a frame is still worth waiting for


def in_opencv() -> bool:
    """Whether OpenCV here was built with GStreamer, and lets a frame take so long and no longer,
    which came with 4.7; before, it opens nothing that is given a limit."""
    lines = cv2.getBuildInformation().splitlines()
    built = any("GStreamer" in line and "YES" in line for line in lines)
    return built and tuple(map(int, cv2.__version__.split(".")[:2])) >= (4, 7)


class Appsink:
    """The frames that a pipeline gives to its appsink, as cv2.VideoCapture gives them.

    `pipeline`: as for gst-launch-1.0. The appsink takes BGR where the pipeline does not tell what
    it takes, so that `videoconvert` belongs before it; and it keeps one frame waiting where it does
    not tell how many, so that a pipeline that is quicker than its reader waits, or drops frames
    where it says `drop=true`. Raises BackendError where there is no PyGObject, and UsageError for
    what is no pipeline, or has no appsink.
    """

    def __init__(self, pipeline: str, timeout: float = 10.0, stop: Event | None = None) -> None:
        """`timeout`: seconds that a frame may take; `stop`: once set, none is waited for."""
        self._gst, _, self._video = (_import(part) for part in _PARTS)
        self._gst.init(None)
        self._told = pipeline
        self._timeout = timeout
        self._stop = stop or Event()
        self._pipeline, self._sink = self._parsed(pipeline)
        if self._sink.get_property("caps") is None:
            self._sink.set_property("caps", self._gst.Caps.from_string(_CAPS))
        if self._sink.get_property("max-buffers") == 0:
            self._sink.set_property("max-buffers", 1)
        self._pipeline.set_state(self._gst.State.PLAYING)  # an error is told where one reads

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        """(True, uint8 [H, W, 3] BGR), or (False, None) at the end, too late, or after an error."""
        late = perf_counter() + self._timeout
        while True:
            sample = self._sink.try_pull_sample(int(_LOOK * self._gst.SECOND))
            if sample is not None:
                return True, self._picture(sample)
            over = self._stop.is_set() or perf_counter() > late
            if self._failed() or self._sink.is_eos() or over:
                return False, None

    def release(self) -> None:
        """Stop, and let go of the camera."""
        self._pipeline.set_state(self._gst.State.NULL)

    def _parsed(self, pipeline: str) -> tuple[Any, Any]:
        glib = import_module("gi.repository.GLib")
        try:
            parsed = self._gst.parse_launch(pipeline)
        except glib.Error as error:
            raise UsageError(f"GStreamer pipeline {pipeline!r}: {error.message}") from error
        sinks = parsed.iterate_sinks() if isinstance(parsed, self._gst.Bin) else None
        while sinks is not None:
            found, sink = sinks.next()
            if found != self._gst.IteratorResult.OK:
                break
            if hasattr(sink, "try_pull_sample"):
                return parsed, sink
        raise UsageError(
            f"GStreamer pipeline {pipeline!r}: it has no appsink, which hands the frames over; end "
            "it with `! videoconvert ! appsink`"
        )

    def _picture(self, sample: Any) -> NDArray[np.uint8]:
        """A copy of the pixels, whose rows are padded to multiples of 4 bytes, or as they tell."""
        info, data = self._video.VideoInfo.new_from_caps(sample.get_caps()), sample.get_buffer()
        if info.finfo.name != "BGR":
            raise UsageError(
                f"GStreamer pipeline {self._told!r}: it gives {info.finfo.name}; end it with "
                f"`! videoconvert ! {_CAPS} ! appsink`"
            )
        meta = self._video.buffer_get_video_meta(data)
        stride, offset = (meta or info).stride[0], (meta or info).offset[0]
        good, mapped = data.map(self._gst.MapFlags.READ)
        if not good:
            raise BackendError(f"GStreamer pipeline {self._told!r}: its memory cannot be read")
        try:
            rows = np.ndarray(
                (info.height, info.width, 3), np.uint8, mapped.data, offset, (stride, 3, 1)
            )
            return rows.copy()
        finally:
            data.unmap(mapped)

    def _failed(self) -> bool:
        """Whether an error ended the frames, which is logged."""
        message = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if message is None:
            return False
        error, _ = message.parse_error()
        log.warning("GStreamer pipeline %r: %s", self._told, error.message)
        return True


def _import(part: str) -> Any:
    try:
        import_module("gi").require_version(part, "1.0")
        return import_module(f"gi.repository.{part}")
    except (ImportError, ValueError) as error:
        raise BackendError(
            f"a GStreamer pipeline takes an OpenCV that was built with GStreamer, which PyPI's is "
            f"not, or PyGObject and GStreamer's {part} ({error}): on Debian, Ubuntu and JetPack "
            "`apt install python3-gi gir1.2-gst-plugins-base-1.0`, in an environment made with "
            "--system-site-packages"
        ) from error
