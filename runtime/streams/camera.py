"""Cameras and network streams, opened again where they vanish."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from threading import Event
from time import perf_counter
from typing import Any

import cv2

from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.real import above_zero, whole
from allfocus.runtime.spec import YUV, Graph
from allfocus.runtime.streams import gstreamer
from allfocus.runtime.streams.frames import Damaged, Source, StreamFrame, check_bgr

log = logging.getLogger("allfocus")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between attempts, doubled each time
_TIMEOUT = 10.0  # seconds, for opening and for each frame, of streams; V4L2 has 10 s of its own

_BELOW = re.compile(r"\s*-\d+\s*")  # a number, but no camera's

Open = Callable[[], Any]  # something like cv2.VideoCapture


class Camera(Source):
    """A camera by its number, or a stream by its address: rtsp://, http://, or a GStreamer pipeline
    that ends in `videoconvert ! appsink`, through OpenCV where it was built with GStreamer, and
    through PyGObject elsewhere.

    It is live: what is not taken in time is lost. One that vanishes, or gives no frame for 10 s, is
    opened again after pauses that grow to 30 s, for ever, or until `patience` seconds without a
    frame have gone by, which raises InputError. `open_capture` stands in for cv2.VideoCapture; its
    `read` has to come back at some time, as those of OpenCV do.

    A video file stands in for one to try things out, and ends at its end; all of a file's frames,
    in time for none of them, are what `VideoSource` gives.
    """

    live = True

    def __init__(
        self,
        where: int | str | os.PathLike[str],
        *,
        patience: float | None = None,
        open_capture: Open | None = None,
    ) -> None:
        if patience is not None and above_zero(patience) is None:
            raise UsageError(f"patience: expected seconds above 0, or None, got {patience!r}")
        self.where = place = _place(where)
        self.reopened = 0
        self._patience = patience
        self._closed = Event()
        self._open = open_capture or (lambda: _capture(place, self._closed))

    def check(self, deblurrer: Deblurrer) -> None:
        """See Source."""
        check_taker(f"camera {self.where}", deblurrer.graph)
        check_bgr(deblurrer, f"camera {self.where}")

    def frames(self) -> Iterator[StreamFrame | Damaged]:
        """See Source. `time` counts from the first frame."""
        start = 0.0
        for index, image in enumerate(self._images()):
            arrived = perf_counter()
            start = start or arrived
            yield StreamFrame(image, index, arrived, arrived - start)

    def close(self) -> None:
        """End before the next frame, also while waiting for a camera."""
        self._closed.set()

    def _images(self) -> Iterator[Any]:
        last, pause, given = perf_counter(), FIRST_PAUSE, 0
        while not self._closed.is_set():
            capture = self._open()
            try:
                while not self._closed.is_set():
                    good, image = capture.read()
                    if not good:
                        break
                    yield image
                    last, pause, given = perf_counter(), FIRST_PAUSE, given + 1
            finally:
                capture.release()
            if self._closed.is_set() or self._ended(given):
                return
            self._wait(perf_counter() - last, pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _ended(self, given: int) -> bool:
        """Whether there is no more to come after so many frames: a file's end is one."""
        # Not Path.is_file, which refuses a pipeline for its length.
        if not isinstance(self.where, str) or not os.path.isfile(self.where):  # noqa: PTH113
            return False
        if not given:
            raise InputError(f"camera {self.where}: a file, and no video that OpenCV can read")
        return True

    def _wait(self, silent: float, pause: float) -> None:
        """Pause before the camera is opened again; `silent`: seconds without a frame."""
        if self._patience is not None and silent >= self._patience:
            raise InputError(
                f"camera {self.where}: no frame for {silent:.0f} s; see that it is plugged in, "
                "that nothing else uses it, and that the address is right"
            )
        log.warning("camera %s gives no frames: opened again in %.1f s", self.where, pause)
        self._closed.wait(pause)
        self.reopened += 1


def check_taker(camera: str, taker: Graph) -> None:
    """Raise UsageError for a graph that takes anything else than colours of 8 bits."""
    if taker.io in ("frame16", *YUV):
        raise UsageError(
            f"{camera}: a camera gives colours of 8 bits, and the model takes {taker.io}: take a "
            "model without --io"
        )


def _place(where: object) -> int | str:
    """A camera's number or an address; raises UsageError for neither."""
    address = str(os.fspath(where)) if isinstance(where, str | os.PathLike) else ""
    if address.strip() and not _BELOW.fullmatch(address):
        return address
    number = whole(where, 0)
    if number is None:
        raise UsageError(f"camera {where!r}: expected a number of 0 or more, or an address")
    return number


def _capture(where: int | str, stop: Event) -> Any:
    """What reads it; `stop` ends the wait for a frame, where the reader has an ear for it."""
    if isinstance(where, int):
        return cv2.VideoCapture(where)
    pipeline = " ! " in where or "appsink" in where
    if pipeline and not gstreamer.in_opencv():
        return gstreamer.Appsink(where, _TIMEOUT, stop)
    reader, limit = cv2.CAP_GSTREAMER if pipeline else cv2.CAP_FFMPEG, round(1000 * _TIMEOUT)
    limits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit)
    return cv2.VideoCapture(where, reader, limits)
