"""Cameras that come and go, stood in for by a list of what they give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams import camera
from allfocus.runtime.streams.camera import Camera
from allfocus.runtime.streams.frames import StreamFrame
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


def test_a_number_below_0_is_refused() -> None:
    with pytest.raises(UsageError, match="camera -1: expected a number of 0 or more"):
        Camera(-1)


def test_a_video_file_may_stand_in_for_a_network_stream(tmp_path: Any) -> None:
    """OpenCV's own reader, with the limits on time that streams get."""
    pytest.importorskip("av", reason="the file is written by PyAV")
    from clips import write_clip

    source = Camera(str(write_clip(tmp_path / "clip.mp4", 5, sound=False)))
    frames = []
    for frame in source.frames():
        frames.append(frame)
        if len(frames) == 5:
            source.close()
    assert all(isinstance(f, StreamFrame) and f.image.shape == (64, 96, 3) for f in frames)
