"""`allfocus video` as people call it, with a stand-in for the model."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")

from clips import decoded, sound_of, timestamps, write_clip
from tiny_graphs import exported, graph_of

import allfocus
from allfocus import cli
from allfocus.runtime import model_options
from allfocus.runtime.deblurrer import Result
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


@pytest.mark.usefixtures("stand_in")
def test_it_tells_its_counters_while_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, out = write_clip(tmp_path / "in.mp4", 4), tmp_path / "out.mp4"
    words = ["video", str(given), "-o", str(out), "--metrics", "0", "--log", "1"]
    assert cli.main(words) == 0
    told = capsys.readouterr()
    assert "/metrics" in told.err
    assert "4 frames" in told.out


def test_a_real_model_makes_a_real_clip(tmp_path: Path) -> None:
    given, out = write_clip(tmp_path / "in.mp4", 3), tmp_path / "out.mp4"
    assert cli.main(["video", str(given), "-o", str(out), "--skip", "off"]) == 0
    assert [frame.pts for frame in decoded(out)] == timestamps(3)
    one, other = (decoded(p)[1].to_ndarray(format="bgr24").astype(int) for p in (given, out))
    assert np.abs(one - other).mean() < 20


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
