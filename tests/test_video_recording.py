"""Videos of what comes from no video file: cameras, iterators, pictures."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")

import av
from clips import decoded, moving

from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.camera import Camera
from allfocus.runtime.streams.frames import Damaged, Source, StreamFrame
from allfocus.runtime.streams.ladder import pass_through
from allfocus.runtime.streams.simple import Frames
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink


class Timed(Source):
    """Frames that come at given seconds, as a camera's do."""

    live = True

    def __init__(self, times: list[float | None], pictures: list[Any] | None = None) -> None:
        self.times = times
        self.pictures = pictures or [moving(n, 96, 64) for n in range(len(times))]

    def frames(self) -> Iterator[StreamFrame | Damaged]:
        for index, time in enumerate(self.times):
            yield StreamFrame(self.pictures[index], index, 1000.0 + index / 10, time)

    def close(self) -> None:
        pass


def recorded(source: Source, out: Path, **options: Any) -> VideoSink:
    sink = VideoSink(out, source, **options)
    Pipeline(source, pass_through, sink, when_full="wait").run()
    return sink


def seconds(path: Path) -> list[float]:
    return [float(frame.pts * frame.time_base) for frame in decoded(path)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_camera_is_recorded_with_its_own_times(tmp_path: Path, suffix: str) -> None:
    times: list[float | None] = [3.0, 3.04, 3.05, 3.5, 3.54]
    out = tmp_path / f"out{suffix}"
    sink = recorded(Timed(times), out)
    assert seconds(out) == pytest.approx([0, 0.04, 0.05, 0.5, 0.54], abs=1e-3)
    assert (sink.written, sink.retimed, sink.notes) == (5, 0, [])
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        context = container.streams.video[0].codec_context
        assert (context.codec.canonical_name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range) == (1, 1)
        assert container.duration / 1e6 == pytest.approx(0.58, abs=1e-3)  # the last: 0.04 again
    found = list(VideoSource(out).frames())
    for index, frame in enumerate(found):
        assert isinstance(frame, StreamFrame)
        assert np.abs(frame.image.astype(int) - moving(index, 96, 64)).mean() < 4


def test_times_that_do_not_go_on_are_mended(tmp_path: Path) -> None:
    sink = recorded(Timed([0.0, 0.1, 0.1, 0.05, 0.5]), tmp_path / "out.mp4")
    found = seconds(tmp_path / "out.mp4")
    assert sink.retimed == 2
    assert found == sorted(set(found))
    assert found[-1] == pytest.approx(0.5, abs=1e-3)


def test_an_opencv_camera_is_recorded_until_it_is_told_to_end(tmp_path: Path) -> None:
    class Capture:
        def __init__(self) -> None:
            self.given = 0

        def read(self) -> tuple[bool, Any]:
            self.given += 1
            if self.given == 20:
                pipeline.stop()
            return True, moving(self.given, 96, 64)

        def release(self) -> None:
            pass

    camera = Camera(0, open_capture=Capture)
    out = tmp_path / "out.mp4"
    pipeline = Pipeline(camera, pass_through, VideoSink(out, camera), when_full="wait")
    report = pipeline.run()
    assert report.frames == len(decoded(out)) > 0
    assert np.all(np.diff(seconds(out)) > 0)


def test_an_iterator_is_recorded_at_a_rate_and_what_was_dropped_leaves_a_gap(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out.mp4"
    pictures = [moving(n, 96, 64) for n in range(5)]
    recorded(Frames(pictures), out, rate=29.97)
    assert seconds(out) == pytest.approx([n * 1001 / 30000 for n in range(5)], abs=1e-6)
    sink = VideoSink(out, Frames(pictures), rate=Fraction(10))
    for index in (4, 5, 8):
        sink.write(StreamFrame(None, index, 0.0), pass_through(pictures[0]))
    sink.close()
    assert seconds(out) == pytest.approx([0, 0.1, 0.4])


def test_live_frames_that_know_no_time_have_that_of_their_arrival(tmp_path: Path) -> None:
    recorded(Timed([None] * 4), tmp_path / "out.mp4")
    assert seconds(tmp_path / "out.mp4") == pytest.approx([0, 0.1, 0.2, 0.3], abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image[..., 0],
        lambda image: image[..., :1],
        lambda image: image.astype(np.uint16) * 257,
        lambda image: image.astype(np.float32) / 255,
        lambda image: np.dstack((image, np.full(image.shape[:2], 9, np.uint8))),
        lambda image: image[:, ::-1],
        lambda image: image[:63, :95],
    ],
)
def test_results_of_every_kind_are_recorded(tmp_path: Path, change: Any) -> None:
    pictures = [change(moving(n, 96, 64)) for n in range(3)]
    sink = recorded(Frames(pictures), tmp_path / "out.mp4", rate=25)
    assert sink.notes == []
    for picture, frame in zip(pictures, decoded(tmp_path / "out.mp4"), strict=True):
        grey = picture.ndim == 2 or picture.shape[2] == 1
        expected = picture.reshape(*picture.shape[:2], -1)[..., :3].astype(float)
        scale = {"u1": 1, "u2": 257, "f4": 1 / 255}[picture.dtype.str[1:]]
        found = frame.to_ndarray(format="bgr24").astype(float)
        assert found.shape[:2] == picture.shape[:2]
        assert np.abs(found - expected / scale).mean() < 4
        assert not grey or np.ptp(found, axis=2).max() <= 4


def test_a_camera_that_changes_its_size_ends_the_video(tmp_path: Path) -> None:
    pictures = [moving(0, 96, 64), moving(1, 96, 64), moving(2, 48, 64)]
    with pytest.raises(InputError, match=r"frame 2 is 48x64, and out\.mp4 is 96x64: a video has o"):
        recorded(Timed([0.0, 0.1, 0.2], pictures), tmp_path / "out.mp4")
    assert len(decoded(tmp_path / "out.mp4")) == 2


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (
            np.zeros((4, 4, 3), np.int32),
            r"expected a result in grey or BGR .* got int32 \[4, 4, 3\]",
        ),
        (
            np.zeros((4, 4, 2), np.uint8),
            r"expected a result in grey or BGR .* got uint8 \[4, 4, 2\]",
        ),
        ("picture", "expected results in host memory, got str"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, image: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        recorded(Frames([image]), tmp_path / "out.mp4", rate=25)
    assert list(tmp_path.iterdir()) == []


def test_frames_without_a_time_need_a_rate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="frame 0 does not say when it is shown: give VideoSink"):
        recorded(Frames([moving(0, 96, 64)]), tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [0, -25, float("nan"), float("inf"), "25", True, 1e-4])
def test_a_rate_that_makes_no_sense_is_refused(tmp_path: Path, rate: Any) -> None:
    with pytest.raises(UsageError, match="expected frames a second, above 0"):
        VideoSink(tmp_path / "out.mp4", Frames([]), rate=rate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.xyz", "out.webm"])
def test_a_container_that_does_not_suit_is_refused_before_the_first_frame(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="cannot be written as a video"):
        VideoSink(tmp_path / name, Frames([]), rate=25)
    assert list(tmp_path.iterdir()) == []
