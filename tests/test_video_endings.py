"""How videos end that cannot go on: nothing half-written, nothing left open."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="video needs PyAV")

from clips import decoded, moving, write_clip

from allfocus.runtime.errors import AllfocusError, InputError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.draft import Draft
from allfocus.runtime.streams.frames import Damaged, StreamFrame
from allfocus.runtime.streams.ladder import pass_through
from allfocus.runtime.streams.simple import Frames
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc (Linux)")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_below(folder: Path) -> list[str]:
    """The files in `folder` that this process holds open, also removed ones."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(link.readlink()))
        except FileNotFoundError:  # that of the listing itself
            continue
    return [name for name in found if name.startswith(str(folder))]


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """When it is called, the draft that stands in the folder comes to lie on a full device."""

    def published(*_: object) -> None:
        pytest.fail("what was not written whole is published")

    def fill() -> None:
        (draft,) = tmp_path.glob(".*")
        draft.unlink()
        draft.symlink_to("/dev/full")  # FFmpeg opens it when it writes the head
        monkeypatch.setattr(Path, "chmod", published)  # of the device itself

    return fill


@needs_full
@needs_proc
@pytest.mark.parametrize("count", [3, 60])  # what fills no buffer fails at the end, more in between
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, full_disk: Callable[[], None], suffix: str, count: int
) -> None:
    given = write_clip(tmp_path / "in.mp4", count, width=320, height=240)
    source = VideoSource(given)
    sink = VideoSink(tmp_path / f"out{suffix}", source)
    full_disk()
    with pytest.raises(AllfocusError, match=r"cannot write .*out\.m.*No space left.*free some sp"):
        Pipeline(source, pass_through, sink).run()
    assert sink.written == 0
    assert names(tmp_path) == ["in.mp4"]
    assert open_below(tmp_path) == []


@needs_full
def test_a_full_disk_at_the_first_packet_of_sound(
    tmp_path: Path, full_disk: Callable[[], None]
) -> None:
    """FFmpeg crashes where it is given more after a head that it could not write."""
    source = VideoSource(write_clip(tmp_path / "in.mp4", 3))
    sink = VideoSink(tmp_path / "out.mp4", source)
    full_disk()
    for frame in source.frames():
        assert not isinstance(frame, Damaged)
        with pytest.raises(AllfocusError, match=r"No space left|could not be written whole"):
            sink.write(frame, pass_through(frame.image))
    with pytest.raises(AllfocusError, match="could not be written whole, and is not kept"):
        sink.close()
    assert names(tmp_path) == ["in.mp4"]


def test_what_could_not_be_written_once_is_not_published_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody makes space on the disk meanwhile: a part is missing."""
    source = Frames([moving(0, 96, 64)] * 5)
    sink = VideoSink(tmp_path / "out.mkv", source, rate=25)
    mux, calls = sink._draft.container.mux, 0

    class Container:
        def mux(self, packet: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            mux(packet)

        def __getattr__(self, name: str) -> Any:
            return getattr(container, name)

    container = sink._draft.container
    monkeypatch.setattr(sink._draft, "container", Container())
    with pytest.raises(AllfocusError, match="No space left on device; free some space"):
        Pipeline(source, pass_through, sink).run()
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_told_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    folders = [tmp_path / "file"]
    if Path("/sys/kernel").is_dir():  # where not even root may make a file
        folders.append(Path("/sys/kernel"))
    for folder in folders:
        with pytest.raises(AllfocusError, match=r"cannot write .*out\.mp4: .*choose another place"):
            VideoSink(folder / "out.mp4", Frames([]), rate=25)
    assert names(tmp_path) == ["file"]


@needs_proc
def test_a_source_that_was_not_read_is_closed(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mp4", 3)
    source = VideoSource(given)
    assert open_below(tmp_path) == [str(given)]
    source.close()
    assert open_below(tmp_path) == []
    source.close()
    assert list(source.frames()) == []
    assert source.total == 3
    begun = VideoSource(given)
    frames = begun.frames()
    assert isinstance(next(frames), StreamFrame)
    begun.close()
    assert list(frames) == []
    assert open_below(tmp_path) == []


@needs_proc
def test_a_video_that_is_given_up_is_closed(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mp4", 40, width=320, height=240)
    source = VideoSource(given)
    sink = VideoSink(tmp_path / "out.mp4", source)
    for frame in source.frames():
        assert not isinstance(frame, Damaged)
        sink.write(frame, pass_through(frame.image))
    sink._draft._broken = True
    with pytest.raises(AllfocusError, match="could not be written whole"):
        sink.close()
    assert open_below(tmp_path) == []
    wrong = [moving(0, 96, 64), moving(0, 48, 64)]
    with pytest.raises(InputError, match="a video has one size"):
        Pipeline(
            Frames(wrong), pass_through, VideoSink(tmp_path / "b.mp4", Frames(wrong), rate=9)
        ).run()
    unread = VideoSource(given)
    VideoSink(tmp_path / "c.mp4", unread).close()  # without a frame
    unread.close()
    assert open_below(tmp_path) == []
    assert names(tmp_path) == ["b.mp4", "in.mp4"]


def test_closing_waits_for_the_frame_that_is_written(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", Frames([]), rate=25)
    picture, encode = sink._manner.picture, threading.Event()

    def slowly(frame: StreamFrame, image: Any) -> Any:
        encode.set()
        time.sleep(0.1)
        return picture(frame, image)

    sink._manner.picture = slowly  # type: ignore[method-assign]
    frame = StreamFrame(None, 0, 0.0)
    writer = threading.Thread(
        target=sink.write, args=(frame, pass_through(moving(0, 96, 64))), daemon=True
    )
    writer.start()
    assert encode.wait(5)
    sink.close()
    assert len(decoded(tmp_path / "out.mp4")) == 1
    with pytest.raises(AllfocusError, match="is finished: it takes no more frames"):
        sink.write(frame, pass_through(moving(0, 96, 64)))


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_ctrl_c_while_it_is_finished_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = VideoSink(tmp_path / "out.mp4", Frames([]), rate=25)
    sink.write(StreamFrame(None, 0, 0.0), pass_through(moving(0, 96, 64)))
    finish = Draft.finish

    def interrupted(self: Draft) -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.1)
        finish(self)

    monkeypatch.setattr(Draft, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sink.close()
    sink.close()
    assert len(decoded(tmp_path / "out.mp4")) == 1
    assert names(tmp_path) == ["out.mp4"]
