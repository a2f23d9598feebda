"""GStreamer pipelines through PyGObject: a stand-in everywhere, the real one where it is."""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from allfocus.runtime.errors import BackendError, UsageError
from allfocus.runtime.streams import gstreamer
from allfocus.runtime.streams.gstreamer import Appsink

PICTURE = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


class RefusedError(Exception):
    message = 'no element "nope"'


class Sink:
    """An appsink that has one sample, and what its pipeline calls."""

    def __init__(self, sample: Any, caps: Any = None) -> None:
        self.set = {"caps": caps, "max-buffers": 0}
        self.ended = True  # after the sample
        self.waited = 0.0
        self._samples = [sample] if sample is not None else []

    def try_pull_sample(self, timeout: int) -> Any:
        if self._samples:
            return self._samples.pop()
        self.waited += timeout / 1e9
        time.sleep(timeout / 1e9)
        return None

    def is_eos(self) -> bool:
        return self.ended

    def get_property(self, name: str) -> Any:
        return self.set[name]

    def set_property(self, name: str, value: Any) -> None:
        self.set[name] = value


def sample(*, kind: str = "BGR", stride: int = 12, offset: int = 0, meta: bool = False) -> Any:
    """PICTURE, in rows of `stride` bytes; with `meta`, only the buffer tells of stride, offset."""
    rows = np.full((2, stride), 255, np.uint8)
    rows[:, :9] = PICTURE.reshape(2, 9)
    data = SimpleNamespace(data=bytes(offset) + rows.tobytes())
    told = SimpleNamespace(stride=[stride], offset=[offset])
    buffer = SimpleNamespace(
        map=lambda _: (True, data), unmap=lambda _: None, meta=told if meta else None
    )
    plain = SimpleNamespace(stride=[9], offset=[0]) if meta else told
    info = SimpleNamespace(width=3, height=2, finfo=SimpleNamespace(name=kind), **vars(plain))
    return SimpleNamespace(get_caps=lambda: info, get_buffer=lambda: buffer)


@pytest.fixture
def gst(monkeypatch: pytest.MonkeyPatch) -> Any:
    """GStreamer as PyGObject shows it; `gst.sinks` are those of the next pipeline."""

    class Bin:
        def __init__(self) -> None:
            self.states: list[str] = []

        def iterate_sinks(self) -> Any:
            left = iter(fake.sinks)
            return SimpleNamespace(next=lambda: (fake.found(s := next(left, None)), s))

        def set_state(self, state: str) -> None:
            self.states.append(state)

        def get_bus(self) -> Any:
            return SimpleNamespace(pop_filtered=lambda _: fake.message)

    def parse(text: str) -> Any:
        if text.startswith("nope"):
            raise RefusedError
        fake.pipeline = Bin()
        return fake.pipeline

    fake = SimpleNamespace(
        sinks=[],
        message=None,
        pipeline=None,
        found=lambda sink: "done" if sink is None else "ok",
        init=lambda _: None,
        parse_launch=parse,
        Bin=Bin,
        SECOND=10**9,
        IteratorResult=SimpleNamespace(OK="ok"),
        State=SimpleNamespace(PLAYING="playing", NULL="null"),
        Caps=SimpleNamespace(from_string=lambda text: text),
        MapFlags=SimpleNamespace(READ=1),
        MessageType=SimpleNamespace(ERROR=2),
    )
    video = SimpleNamespace(
        VideoInfo=SimpleNamespace(new_from_caps=lambda info: info),
        buffer_get_video_meta=lambda buffer: buffer.meta,
    )
    modules = {
        "gi": SimpleNamespace(require_version=lambda *_: None),
        "gi.repository.Gst": fake,
        "gi.repository.GstApp": SimpleNamespace(),
        "gi.repository.GstVideo": video,
        "gi.repository.GLib": SimpleNamespace(Error=RefusedError),
    }
    monkeypatch.setattr(gstreamer, "import_module", modules.__getitem__)
    return fake


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="padded to 4 bytes"),
        pytest.param({"stride": 9}, id="without gaps"),
        pytest.param({"stride": 32, "offset": 7, "meta": True}, id="as the buffer tells"),
    ],
)
def test_a_frame_is_read_whatever_its_rows_are_padded_to(gst: Any, given: Any) -> None:
    sink = Sink(sample(**given))
    gst.sinks = [SimpleNamespace(), sink]  # one that is no appsink, too
    source = Appsink("videotestsrc ! videoconvert ! appsink", timeout=1.5)
    good, image = source.read()
    assert good
    assert image is not None
    np.testing.assert_array_equal(image, PICTURE)
    assert image.flags.owndata  # GStreamer takes its memory back
    assert source.read() == (False, None)
    source.release()
    assert gst.pipeline.states == ["playing", "null"]


@pytest.mark.parametrize("own", [None, "video/x-raw,format=BGR,width=3"])
def test_the_appsink_takes_bgr_unless_it_is_told(gst: Any, own: str | None) -> None:
    sink = Sink(None, own)
    gst.sinks = [sink]
    Appsink("videotestsrc ! appsink")
    assert sink.set["caps"] == (own or "video/x-raw,format=BGR")


@pytest.mark.parametrize(("own", "kept"), [(0, 1), (5, 5)])
def test_few_frames_wait_for_a_reader_that_is_slow(gst: Any, own: int, kept: int) -> None:
    sink = Sink(None)
    sink.set["max-buffers"] = own
    gst.sinks = [sink]
    Appsink("videotestsrc ! appsink")
    assert sink.set["max-buffers"] == kept


def test_a_camera_that_stalls_is_waited_for_so_long(gst: Any) -> None:
    sink = Sink(None)
    sink.ended = False
    gst.sinks = [sink]
    assert Appsink("v4l2src ! appsink", timeout=0.35).read() == (False, None)
    assert 0.35 <= sink.waited < 1


def test_a_wait_is_broken_off(gst: Any) -> None:
    stop, sink = threading.Event(), Sink(None)
    sink.ended = False
    gst.sinks = [sink]
    threading.Timer(0.15, stop.set).start()
    assert Appsink("v4l2src ! appsink", timeout=60, stop=stop).read() == (False, None)
    assert sink.waited < 5


def test_another_format_is_refused_with_what_to_write(gst: Any) -> None:
    gst.sinks = [Sink(sample(kind="RGBA"))]
    with pytest.raises(UsageError, match="gives RGBA; end it with `! videoconvert ! video/x-raw"):
        Appsink("videotestsrc ! appsink caps=video/x-raw,format=RGBA").read()


def test_what_is_no_pipeline_is_refused(gst: Any) -> None:
    with pytest.raises(UsageError, match=r"'nope ! appsink': no element \"nope\""):
        Appsink("nope ! appsink")
    gst.sinks = [SimpleNamespace()]
    with pytest.raises(UsageError, match=r"it has no appsink.*end it with `! videoconvert ! apps"):
        Appsink("videotestsrc ! fakesink")


def test_the_error_that_ended_it_is_told(gst: Any, caplog: pytest.LogCaptureFixture) -> None:
    gst.sinks = [Sink(None)]
    gst.sinks[0].ended = False  # an error is none
    told = SimpleNamespace(message="Cannot identify device")
    gst.message = SimpleNamespace(parse_error=lambda: (told, "debug"))
    with caplog.at_level(logging.WARNING, "allfocus"):
        assert Appsink("v4l2src ! appsink").read() == (False, None)
    assert "GStreamer pipeline 'v4l2src ! appsink': Cannot identify device" in caplog.text


@pytest.mark.parametrize("missing", ["gi", "a typelib"])
def test_without_pygobject_it_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    module = ModuleType("gi")
    module.require_version = _refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gi", None if missing == "gi" else module)
    with pytest.raises(BackendError, match=r"PyGObject and GStreamer's Gst .*apt install"):
        Appsink("videotestsrc ! appsink")


def _refuse(name: str, version: str) -> None:
    raise ValueError(f"Namespace {name} not available for version {version}")


@pytest.mark.parametrize(
    ("built", "version", "there"),
    [("YES (1.22.0)", "4.6.0", False), ("YES (1.22.0)", "4.13.0", True), ("NO", "5.0.0", False)],
)
def test_opencv_must_be_built_with_it_and_know_limits(
    monkeypatch: pytest.MonkeyPatch, built: str, version: str, there: bool
) -> None:
    told = f"  Video I/O:\n    GStreamer:                   {built}\n"
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: told)
    monkeypatch.setattr(cv2, "__version__", version)
    assert gstreamer.in_opencv() == there


def test_a_real_pipeline() -> None:
    gi = pytest.importorskip("gi", reason="needs PyGObject")
    try:
        for part in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(part, "1.0")
    except ValueError as error:
        pytest.skip(f"needs GStreamer: {error}")
    source = Appsink(
        "videotestsrc num-buffers=2 pattern=blue ! video/x-raw,width=33,height=10 ! videoconvert ! "
        "appsink"
    )
    for _ in range(2):
        good, image = source.read()
        assert good
        assert image is not None
        assert image.shape == (10, 33, 3)
        assert (image == (255, 0, 0)).all(axis=2).mean() > 0.9
    assert source.read() == (False, None)
    source.release()
