"""What a source or a sink would take for something else is refused before the first frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import moving, write_clip
from specs import SPEC

from allfocus.runtime.backend import Array, Backend, Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import Color, Graph, Io, Spec
from allfocus.runtime.streams.camera import Camera
from allfocus.runtime.streams.files import PictureFiles, PictureFolder
from allfocus.runtime.streams.frames import Sink
from allfocus.runtime.streams.ladder import Step, pass_through
from allfocus.runtime.streams.simple import Callback, Frames
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink

Made = Callable[[Io, Color], Deblurrer]


class Same(Backend):
    """Gives back what it gets."""

    name = "stand-in"
    io: Io = "frame"

    def _load(self) -> tuple[Spec, Graph]:
        return SPEC, Graph(io=self.io, precision="fp32", color="rgb", shapes=None)

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {"sharp": inputs["image"]}

    def _close(self) -> None:
        pass


@pytest.fixture
def made() -> Iterator[Made]:
    with ExitStack() as stack:

        def make(io: Io, color: Color) -> Deblurrer:
            kind = type("Same", (Same,), {"io": io})
            return stack.enter_context(Deblurrer(kind(Path("fake"), Options()), color=color))

        yield make


def clip(folder: Path, taker: Graph | None = None) -> VideoSource:
    pytest.importorskip("av", reason="video needs PyAV")
    write_clip(folder / "in.mp4", 3)
    return VideoSource(folder / "in.mp4", taker)


def sinks(folder: Path, source: Any) -> list[Sink]:
    found: list[Sink] = [PictureFolder(folder / "pictures")]
    pytest.importorskip("av", reason="video needs PyAV")
    return [*found, VideoSink(folder / "out.mp4", source, rate=25)]


@pytest.mark.parametrize(
    ("io", "color", "message"),
    [
        ("nv12", "bgr", "and the model takes and gives nv12: load one without io"),
        ("p010", "bgr", "and the model takes and gives p010: load one without io"),
        ("frame", "rgb", 'and the model was loaded with color="rgb": load it without'),
    ],
)
def test_results_that_would_be_taken_for_others(
    tmp_path: Path, made: Made, io: Io, color: Color, message: str
) -> None:
    source = Frames([])
    deblur = made(io, color)
    for sink in sinks(tmp_path, source):
        with sink, pytest.raises(UsageError, match=f"grey or BGR here, {message}"):
            Pipeline(source, deblur, sink)
        steps = [Step("worse", deblur)]
        with sink, pytest.raises(UsageError, match=message):
            Pipeline(source, pass_through, sink, ladder=steps, deadline_ms=9)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("io", "color"), [("nv12", "bgr"), ("frame", "rgb"), ("frame", "bgr")])
def test_a_function_takes_all(made: Made, io: Io, color: Color) -> None:
    picture = np.zeros((6, 4) if io == "nv12" else (4, 4, 3), np.uint8)
    found: list[Any] = []
    sink = Callback(lambda _, result: found.append(result.image))
    assert Pipeline(Frames([picture]), made(io, color), sink).run().frames == 1
    assert [image.shape for image in found] == [picture.shape]


def test_what_is_meant_is_written(tmp_path: Path, made: Made) -> None:
    given = Frames([])
    for sink in sinks(tmp_path, given):
        source = Frames([moving(0, 96, 64)])
        assert Pipeline(source, made("frame", "bgr"), sink).run().frames == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "pictures"]


@pytest.mark.parametrize(("io", "color"), [("nv12", "bgr"), ("p010", "bgr"), ("frame", "rgb")])
def test_frames_that_the_model_would_take_for_others(
    tmp_path: Path, made: Made, io: Io, color: Color
) -> None:
    deblur, anything = made(io, color), Callback(lambda *_: None)
    cv2.imwrite(str(tmp_path / "a.png"), moving(0, 96, 64))
    said = "frames are in grey or BGR here"
    with PictureFiles(tmp_path) as source, pytest.raises(UsageError, match=said):
        Pipeline(source, deblur, anything)
    said = said if io == "frame" else f"colours of 8 bits, and the model takes {io}"
    with Camera(0) as camera, pytest.raises(UsageError, match=said):
        Pipeline(camera, deblur, anything)
    video = clip(tmp_path)
    said = "loaded with color" if io == "frame" else r"VideoSource\(path, deblur\.graph\)"
    with video, pytest.raises(UsageError, match=said):
        Pipeline(video, deblur, anything)


def test_all_models_of_a_video_take_the_same_samples(tmp_path: Path, made: Made) -> None:
    deblur, other = made("nv12", "bgr"), made("frame", "bgr")
    source = clip(tmp_path, deblur.graph)
    sink = VideoSink(str(tmp_path / "out.mp4"), source)
    said = "handed over as nv12 bt709 limited, and the model takes frame: all models of a pipeline"
    with sink, source, pytest.raises(UsageError, match=said):
        Pipeline(source, deblur, sink, ladder=[Step("lite", other)], deadline_ms=50)
    with source, pytest.raises(UsageError, match=said):
        Pipeline(source, other, Callback(lambda *_: None))
    source = clip(tmp_path, deblur.graph)
    ladder = [Step("less", made("nv12", "bgr"))]
    sink = VideoSink(tmp_path / "out.mp4", source)
    assert Pipeline(source, deblur, sink, ladder=ladder, deadline_ms=5000).run().frames == 3


def test_places_may_be_texts(tmp_path: Path, made: Made) -> None:
    clip(tmp_path).close()
    source = VideoSource(str(tmp_path / "in.mp4"))
    assert Pipeline(source, made("frame", "bgr"), VideoSink(str(tmp_path / "b.mp4"), source)).run()
    given = Frames([moving(0, 96, 64)])
    assert Pipeline(given, made("frame", "bgr"), PictureFolder(str(tmp_path / "out"))).run()
    assert (tmp_path / "b.mp4").is_file()
    assert (tmp_path / "out" / "000000.png").is_file()
