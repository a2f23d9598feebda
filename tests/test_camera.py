"""Cameras that come and go, stood in for by a list of what they give."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from allfocus.runtime import pipeline as pipelines
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams import camera, gstreamer
from allfocus.runtime.streams.camera import Camera
from allfocus.runtime.streams.frames import Damaged, Source, StreamFrame
from allfocus.runtime.streams.ladder import pass_through
from allfocus.runtime.streams.simple import Callback


class Captures:
    """Each opening gives so many frames, then nothing."""

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)
        self.opened = self.released = 0

    def __call__(self) -> Captures:
        self.left = self.counts[self.opened] if self.opened < len(self.counts) else 0
        self.opened += 1
        return self

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        return self.left >= 0, np.full((2, 2, 3), self.opened, np.uint8)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(camera, "LONGEST_PAUSE", 0.004)


@pytest.mark.usefixtures("pauses")
def test_one_that_vanishes_is_opened_again() -> None:
    captures = Captures(3, 0, 0, 2)
    source = Camera(0, open_capture=captures)
    seen: list[int] = []
    for frame in source.frames():
        assert isinstance(frame, StreamFrame)
        seen.append(int(frame.image[0, 0, 0]))
        assert frame.index == len(seen) - 1
        if len(seen) == 5:
            source.close()
    assert seen == [1, 1, 1, 4, 4]
    assert source.reopened == 3
    assert captures.released == captures.opened


@pytest.mark.usefixtures("pauses")
def test_pauses_grow_and_end(caplog: pytest.LogCaptureFixture) -> None:
    source = Camera("rtsp://nowhere", open_capture=Captures(), patience=0.05)
    with pytest.raises(InputError, match="camera rtsp://nowhere: no frame for 0 s; see that it"):
        list(source.frames())
    assert source.reopened > 3
    assert "opened again in 0.0 s" in caplog.text


@pytest.mark.usefixtures("pauses")
def test_a_pipeline_of_a_camera_ends_when_it_is_told_to() -> None:
    captures = Captures(*[4] * 1000)
    done: list[int] = []

    def third(frame: StreamFrame, _: object) -> None:
        done.append(frame.index)
        if len(done) == 3:
            pipeline.stop()

    pipeline = Pipeline(Camera(0, open_capture=captures), pass_through, Callback(third))
    report = pipeline.run()
    assert report.frames >= 3
    assert captures.released == captures.opened


@pytest.mark.parametrize("where", [-1, True, 1.5, None, b"/dev/video0", [0], "", " ", "-1"])
def test_what_is_no_camera_is_refused(where: Any) -> None:
    with pytest.raises(UsageError, match=r"camera .*: expected a number of 0 or more, or an addr"):
        Camera(where)


@pytest.mark.parametrize("patience", [0, -1, "5", float("nan"), True])
def test_patience_that_makes_no_sense_is_refused(patience: Any) -> None:
    with pytest.raises(UsageError, match="patience: expected seconds above 0, or None, got"):
        Camera(0, patience=patience)


def test_cameras_are_numbers_and_paths_of_any_kind() -> None:
    assert Camera(np.int64(2), patience=np.float32(3)).where == 2  # type: ignore[arg-type]
    assert Camera(Path("/dev/video0")).where == str(Path("/dev/video0"))


def test_a_video_file_may_stand_in_for_a_network_stream(tmp_path: Any) -> None:
    """OpenCV's own reader, with the limits on time that streams get."""
    pytest.importorskip("av", reason="the file is written by PyAV")
    from clips import write_clip

    source = Camera(str(write_clip(tmp_path / "clip.mp4", 5, sound=False)))
    frames = list(source.frames())  # which end where the file does
    assert len(frames) == 5
    assert all(isinstance(f, StreamFrame) and f.image.shape == (64, 96, 3) for f in frames)
    assert source.reopened == 0


def test_a_file_that_is_no_video_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("nothing")
    with pytest.raises(InputError, match=r"clip\.mp4: a file, and no video that OpenCV can read"):
        next(Camera(tmp_path / "clip.mp4").frames())


@pytest.mark.parametrize(
    ("where", "reader"),
    [
        ("rtsp://somewhere/stream", cv2.CAP_FFMPEG),
        ("videotestsrc ! appsink", cv2.CAP_GSTREAMER),
    ],
)
def test_streams_are_told_how_long_a_frame_may_take(
    monkeypatch: pytest.MonkeyPatch, where: str, reader: int
) -> None:
    """Of a numbered camera V4L2, AVFoundation and Media Foundation have limits of their own."""
    given: list[Any] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda *options: given.append(options))
    monkeypatch.setattr(gstreamer, "in_opencv", lambda: True)
    camera._capture(where, threading.Event())
    (found,) = given
    assert found[:2] == (where, reader)
    limits = dict(zip(found[2][::2], found[2][1::2], strict=True))
    assert limits == {
        cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: 10_000,
        cv2.CAP_PROP_READ_TIMEOUT_MSEC: 10_000,
    }


@pytest.mark.parametrize("where", ["videotestsrc ! appsink", "v4l2src ! videoconvert"])
def test_a_pipeline_takes_pygobject_where_opencv_has_no_gstreamer(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(gstreamer, "in_opencv", lambda: False)
    monkeypatch.setattr(gstreamer, "Appsink", lambda *given: given)
    stop = threading.Event()
    assert camera._capture(where, stop) == (where, 10.0, stop)


def test_a_source_that_hangs_is_left_to_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a driver that never comes back: the others are closed, and the run ends."""
    hangs, let_go = threading.Event(), threading.Event()

    class Hanging(Source):
        live = True

        def frames(self) -> Iterator[StreamFrame | Damaged]:
            yield StreamFrame(np.zeros((2, 2, 3), np.uint8), 0, time.perf_counter())
            hangs.set()
            let_go.wait(30)

        def close(self) -> None:
            pass

    monkeypatch.setattr(pipelines, "_PATIENCE", 0.05)
    done = threading.Event()
    pipeline = Pipeline(Hanging(), pass_through, Callback(lambda *_: done.set()))

    def stop() -> None:
        assert hangs.wait(5)
        assert done.wait(5)
        pipeline.stop()

    stopper = threading.Thread(target=stop)
    stopper.start()
    start = time.perf_counter()
    try:
        report = pipeline.run()
        assert time.perf_counter() - start < 5
        assert report.frames == 1
        assert "the source does not end: it is left to itself" in caplog.text
    finally:
        let_go.set()
        stopper.join(5)
