"""What a sink cannot write as it is meant is refused before the first frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import moving
from specs import SPEC

from allfocus.runtime.backend import Array, Backend, Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import Color, Graph, Io, Spec
from allfocus.runtime.streams.files import PictureFolder
from allfocus.runtime.streams.frames import Sink
from allfocus.runtime.streams.ladder import Step, pass_through
from allfocus.runtime.streams.simple import Callback, Frames
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


def sinks(folder: Path, source: Any) -> list[Sink]:
    found: list[Sink] = [PictureFolder(folder / "pictures")]
    pytest.importorskip("av", reason="video needs PyAV")
    return [*found, VideoSink(folder / "out.mp4", source, rate=25)]


@pytest.mark.parametrize(
    ("io", "color", "message"),
    [
        ("nv12", "bgr", "and the model gives nv12: load one without io"),
        ("p010", "bgr", "and the model gives p010: load one without io"),
        ("frame", "rgb", 'and the model was loaded with color="rgb": load it without'),
    ],
)
def test_results_that_would_be_taken_for_others(
    tmp_path: Path, made: Made, io: Io, color: Color, message: str
) -> None:
    source = Frames([])
    deblur = made(io, color)
    for sink in sinks(tmp_path, source):
        with sink, pytest.raises(UsageError, match=f"grey or BGR, {message}"):
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
