"""`allfocus video` as people call it, with a stand-in for the model."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")

import av
from clips import decoded, moving, sound_of, timestamps, write_clip
from tiny_graphs import exported, graph_of
from tqdm import tqdm

import allfocus
from allfocus import cli
from allfocus.runtime import model_options
from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import BackendError, InputError, LimitError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams import camera
from allfocus.runtime.streams.semiplanar import taken
from allfocus.runtime.streams.video import VideoSource

DRIVER = """
import sys, time
import numpy as np
from allfocus import cli
from allfocus.runtime import model_options
from allfocus.runtime.deblurrer import Result

class Slow:
    class graph:
        io = "frame"
    class spec:
        name = "slow"
    backend, precision = "cpu", "fp32"
    def __enter__(self):
        return self
    def __exit__(self, *_):
        print("closed", flush=True)
    def __call__(self, image):
        print("frame", flush=True)
        time.sleep(0.05)
        return Result(255 - image, None, {})

model_options.load = lambda *_, **__: Slow()
sys.exit(cli.main(sys.argv[1:]))
"""


class Inverting:
    """Instead of a Deblurrer."""

    class graph:  # noqa: N801
        io = "float"

    class spec:  # noqa: N801
        name = "inverting"

    backend, precision = "cpu", "fp32"

    def __enter__(self) -> Inverting:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, image: Any) -> Result:
        return Result(np.iinfo(image.dtype).max - image, None, {}, skipped=0.25)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_options, "load", lambda *_, **__: Inverting())


@pytest.mark.usefixtures("stand_in")
def test_a_clip_becomes_one_of_the_same_length_with_its_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert cli.main(["video", str(given), "-o", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["skipped"], report["retimed"]) == (12, 0.25, 0)
    assert [frame.pts for frame in decoded(out)] == timestamps(12)
    assert sound_of(out) == sound_of(given)


def test_it_tells_its_counters_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told_one = threading.Event()

    class Waiting(Inverting):
        """Does its first frame, and the others once a line of the log is there."""

        done = 0

        def __call__(self, image: Any) -> Result:
            if self.done:
                told_one.wait(5)
            self.done += 1
            return super().__call__(image)

    def write(text: str, **options: Any) -> None:
        print(text, **options)
        if "/s, latency" in text:
            told_one.set()

    monkeypatch.setattr(model_options, "load", lambda *_, **__: Waiting())
    monkeypatch.setattr(tqdm, "write", write)
    given, out = write_clip(tmp_path / "in.mp4", 4), tmp_path / "out.mp4"
    words = ["video", str(given), "-o", str(out), "--metrics", "0", "--log", "1"]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert "/metrics" in told.err
    assert re.search(r"^allfocus: [0-3] frames, \d+\.\d/s, latency p50 ", told.err, re.MULTILINE)
    assert "4 frames" in told.out


def test_a_real_model_makes_a_real_clip(tmp_path: Path) -> None:
    given, out = write_clip(tmp_path / "in.mp4", 3), tmp_path / "out.mp4"
    assert cli.main(["video", str(given), "-o", str(out), "--skip", "off"]) == 0
    assert [frame.pts for frame in decoded(out)] == timestamps(3)
    one, other = (decoded(p)[1].to_ndarray(format="bgr24").astype(int) for p in (given, out))
    assert 0 < np.abs(one - other).mean() < 20
    assert sound_of(out) == sound_of(given)
    assert lengths(out) == pytest.approx(lengths(given), abs=1e-3)


def lengths(path: Path) -> list[float]:
    """Of all of a video, its pictures and its sound, in seconds."""
    with av.open(str(path)) as container:
        assert container.duration is not None
        streams = [float((s.duration or 0) * (s.time_base or 0)) for s in container.streams]
        return [container.duration / 1e6, *streams]


def test_a_model_of_luma_and_chroma_makes_a_clip_too(tmp_path: Path) -> None:
    made, model = graph_of("didanet-tiny", "whole", "nv12", "fp32", None), tmp_path / "tiny.onnx"
    exported("didanet-tiny", made, model)
    given, out = write_clip(tmp_path / "in.mp4", 3), tmp_path / "out.mp4"
    assert cli.main(["video", str(given), "-o", str(out), "--model", str(model)]) == 0
    assert [frame.pts for frame in decoded(out)] == timestamps(3)
    with allfocus.load(model) as deblur:
        expected = deblur(taken(decoded(given)[1], made)).image
    found = taken(decoded(out)[1], made)
    assert np.abs(found.astype(int) - expected).mean() < 3  # the encoder's loss
    assert np.abs(found.astype(int) - taken(decoded(given)[1], made)).mean() > 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_signal_finishes_the_file(tmp_path: Path, number: int) -> None:
    given, out = write_clip(tmp_path / "in.mp4", 200), tmp_path / "out.mp4"
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    words = [sys.executable, str(driver), "video", str(given), "-o", str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline() == "frame\n"
        process.send_signal(number)
        start = time.perf_counter()
        rest = process.stdout.read()
    assert time.perf_counter() - start < 5
    assert process.returncode == 0
    assert "closed" in rest
    frames = decoded(out)
    assert 5 <= len(frames) <= 8
    assert [frame.pts for frame in frames] == timestamps(200)[: len(frames)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["driver.py", "in.mp4", "out.mp4"]


@pytest.mark.usefixtures("stand_in")
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = write_clip(tmp_path / "in.mp4", 2)
    other = write_clip(tmp_path / "other.mp4", 2)
    for words, status, text in (
        (["video", str(given), "-o", str(given)], 2, "the input itself"),
        (["video", str(given), "-o", str(other)], 2, "is there already"),
        (["video", str(given), "-o", str(tmp_path)], 2, "a folder, where the name of a video"),
        (["video", "none.mp4", "-o", str(tmp_path / "x.mp4")], 1, "not a video that can be read"),
        (["video", str(given), "-o", str(tmp_path / "x.doc")], 2, "cannot be written as a video"),
    ):
        assert cli.main(words) == status
        assert text in capsys.readouterr().err
    assert not (tmp_path / "x.mp4").exists()
    assert cli.main(["video", str(given), "-o", str(other), "--overwrite"]) == 0


@pytest.mark.usefixtures("stand_in")
def test_a_video_without_a_readable_frame_makes_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(VideoSource, "frames", lambda _: iter(()))
    out = tmp_path / "out.mp4"
    assert cli.main(["video", str(write_clip(tmp_path / "in.mp4", 2)), "-o", str(out)]) == 1
    assert "no frames were written" in capsys.readouterr().err
    assert not out.exists()


class Failing(Inverting):
    """Does some frames, then none; counts what it was given."""

    def __init__(self, error: Exception, does: int) -> None:
        self.error, self.does, self.given = error, does, 0

    def __call__(self, image: Any) -> Result:
        self.given += 1
        if self.given > self.does:
            raise self.error
        return super().__call__(image)


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception, does: int = 0) -> Failing:
    model = Failing(error, does)
    monkeypatch.setattr(model_options, "load", lambda *_, **__: model)
    return model


def test_too_little_memory_ends_it_at_the_first_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given, out = write_clip(tmp_path / "in.mp4", width=320, height=240), tmp_path / "out.mp4"
    assert cli.main(["video", str(given), "-o", str(out), "--memory", "1MB"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == f"allfocus: {out} is not written"
    assert "too small for one tile" in told[1]
    assert len(told) == 2
    assert caplog.text == ""
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    ("error", "given", "times"),
    [
        (LimitError("too large; give more --memory"), 6, 1),
        (BackendError("out of order"), 8, 2),  # of a frame left out first, then of the third
    ],
)
def test_what_ends_it_in_the_middle_keeps_what_was_done(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    given: int,
    times: int,
) -> None:
    model = failing(monkeypatch, error, does=5)
    clip, out = write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert cli.main(["video", str(clip), "-o", str(out)]) == 1
    assert model.given == given
    told = capsys.readouterr().err
    assert told.count(str(error)) == times
    assert "holds the 5 frames that were done, and plays" in told
    assert len(decoded(out)) == 5


def test_frames_that_fail_alike_are_told_once_and_make_it_fail(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = failing(monkeypatch, InputError("out of order at 0x7f31"), does=4)
    given, out = write_clip(tmp_path / "in.mp4"), tmp_path / "out.mp4"
    assert cli.main(["video", str(given), "-o", str(out)]) == 1
    assert model.given == 12
    assert [record.getMessage() for record in caplog.records] == [
        "frame 4 left out: out of order at 0x7f31"
    ]
    told = capsys.readouterr().err
    assert "7 more times: frame 4 left out: out of order" in told
    assert "8 frames were left out" in told
    assert len(decoded(out)) == 4


class Webcam:
    """Stands in for cv2.VideoCapture; after `count` frames somebody presses Ctrl-C."""

    def __init__(self, count: int) -> None:
        self.count, self.given = count, 0

    def read(self) -> tuple[bool, Any]:
        self.given += 1
        if self.given == self.count:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        return True, moving(self.given, 96, 64)

    def release(self) -> None:
        pass


@pytest.mark.usefixtures("stand_in")
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("camera:0", 0),
        ("rtsp://somewhere/stream", "rtsp://somewhere/stream"),
        ("camera:v4l2src ! appsink", "v4l2src ! appsink"),
    ],
)
def test_a_camera_is_recorded_until_ctrl_c(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    where: int | str,
) -> None:
    opened: list[int | str] = []

    def open_it(where: int | str, _: object) -> Webcam:
        opened.append(where)
        return Webcam(12)

    monkeypatch.setattr(camera, "_capture", open_it)
    out = tmp_path / "out.mp4"
    assert cli.main(["video", text, "-o", str(out), "--json"]) == 0
    assert opened == [where]
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["input"], report["frames"]) == (text, len(decoded(out)))
    assert 5 <= report["frames"] <= 13
    times = [float(frame.pts * frame.time_base) for frame in decoded(out)]
    assert min(np.diff(times)) >= 0.005
    assert times[-1] < 5


@pytest.mark.usefixtures("stand_in")
def test_a_camera_that_gives_nothing_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Nothing(Webcam):
        def read(self) -> tuple[bool, Any]:
            return False, None

    monkeypatch.setattr(camera, "_capture", lambda *_: Nothing(0))
    monkeypatch.setattr(camera, "LONGEST_PAUSE", 0.5)
    words = ["video", "camera:3", "-o", str(tmp_path / "out.mp4"), "--patience", "1"]
    assert cli.main(words) == 1
    assert "camera 3: no frame for 1 s; see that it is plugged in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_camera_and_a_model_for_decoders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OfDecoders(Inverting):
        class graph:  # noqa: N801
            io = "nv12"

    monkeypatch.setattr(model_options, "load", lambda *_, **__: OfDecoders())
    assert cli.main(["video", "camera:0", "-o", str(tmp_path / "out.mp4")]) == 2
    assert "the model takes nv12: take a model without --io" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_second_ctrl_c_says_what_it_keeps(tmp_path: Path) -> None:
    given, out = write_clip(tmp_path / "in.mp4", 50), tmp_path / "out.mp4"
    driver = tmp_path / "driver.py"
    # the third frame takes long, in small steps: a signal just before a sleep would wait for it
    slow = (
        "self.n = getattr(self, 'n', 0) + 1; [time.sleep(0.01) for _ in range(self.n // 3 * 3000)]"
    )
    driver.write_text(DRIVER.replace("time.sleep(0.05)", slow))
    words = [sys.executable, str(driver), "video", str(given), "-o", str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):
            assert process.stdout.readline() == "frame\n"
        process.send_signal(signal.SIGINT)
        assert "once more: at once" in process.stderr.readline()
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert time.perf_counter() - start < 10
    assert process.returncode == 130
    assert told == f"allfocus: interrupted; {out} holds the 2 frames that were done, and plays\n"
    assert [frame.pts for frame in decoded(out)] == timestamps(2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["driver.py", "in.mp4", "out.mp4"]


@pytest.mark.usefixtures("stand_in")
def test_an_interrupt_before_the_first_frame_says_that_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: Pipeline) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pipeline, "run", interrupted)
    given, out = write_clip(tmp_path / "in.mp4", 2), tmp_path / "out.mp4"
    assert cli.main(["video", str(given), "-o", str(out)]) == 130
    assert capsys.readouterr().err == f"allfocus: interrupted; {out} is not written\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
