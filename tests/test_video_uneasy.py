"""Videos of codecs and containers that go by rules of their own."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")
import av
from clips import decoded, moving, write_clip
from PIL import Image
from video_runs import converted

from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import InputError
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.simple import Frames
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import Encoding, VideoSink


def photos_as_a_film(path: Path, orientation: int) -> Path:
    """JPEG files of a camera, EXIF and all, one behind the other in an .avi."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        for index in range(3):
            data = io.BytesIO()
            picture = Image.fromarray(cv2.cvtColor(moving(index, 96, 64), cv2.COLOR_BGR2RGB))
            picture.save(data, "JPEG", exif=exif.tobytes())
            packet = av.Packet(data.getvalue())
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            container.mux(packet)
    return path


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (3, 180), (6, -90), (8, 90)])
def test_what_else_stands_beside_a_picture_does_not_matter(
    tmp_path: Path, orientation: int, turned: int
) -> None:
    given = photos_as_a_film(tmp_path / "in.avi", orientation)
    if abs(decoded(given)[0].rotation) != abs(turned):
        pytest.skip("this FFmpeg does not turn frames by their EXIF")
    sink = converted(given, tmp_path / "out.mp4")
    assert sink.written == 3
    shown, wanted = (
        {f.rotation % 360 for f in decoded(tmp_path / n)} for n in ("out.mp4", "in.avi")
    )
    assert shown == wanted


@pytest.mark.parametrize(("codec", "late"), [("libx264", True), ("mpeg4", False)])
def test_an_avi_says_where_it_holds_no_times(tmp_path: Path, codec: str, late: bool) -> None:
    given = write_clip(tmp_path / "in.mp4", 4, sound=False)
    sink = converted(given, tmp_path / "out.avi", codec=codec)
    assert any("players show each at the next one's time" in note for note in sink.notes) is late
    assert not any("next one's time" in n for n in converted(given, tmp_path / "out.mkv").notes)


@pytest.mark.parametrize(("pixels", "written"), [("yuv420p", "yuvj420p"), ("yuv444p", "yuvj444p")])
def test_motion_jpeg_is_of_the_full_range(tmp_path: Path, pixels: str, written: str) -> None:
    given = write_clip(tmp_path / "in.mp4", 3, pixels=pixels, sound=False, tags={"color_range": 1})
    sink = converted(given, tmp_path / "out.mkv", codec="mjpeg", quality=5)
    assert sink.notes == [
        f"mjpeg takes values of the full range alone: {pixels} written as {written}"
    ]
    for one, other in zip(decoded(given), decoded(tmp_path / "out.mkv"), strict=True):
        assert other.format.name == written
        before, after = (f.to_ndarray(format="rgb24").astype(np.float32) for f in (one, other))
        assert np.abs(before - after).mean() < 3


def test_motion_jpeg_of_the_full_range_stays_as_it_is(tmp_path: Path) -> None:
    given = photos_as_a_film(tmp_path / "in.avi", 1)
    sink = converted(given, tmp_path / "out.avi")
    assert sink.notes == []
    assert {frame.format.name for frame in decoded(tmp_path / "out.avi")} == {"yuvj420p"}


def test_frames_of_a_program_can_be_motion_jpeg(tmp_path: Path) -> None:
    frames = [moving(index, 96, 64) for index in range(3)]
    source = Frames(frames)
    with VideoSink(tmp_path / "out.avi", source, Encoding("mjpeg", 5), rate=25) as sink:
        for index, image in enumerate(frames):
            sink.write(StreamFrame(image, index, 0.0), Result(image, None, {}))
    for image, frame in zip(frames, decoded(tmp_path / "out.avi"), strict=True):
        shown = frame.to_ndarray(format="bgr24").astype(np.float32)
        assert np.abs(shown - image.astype(np.float32)).mean() < 4


def test_a_named_colour_profile_does_not_end_the_process() -> None:
    """The package's photo has one. What ends is a process of its own, and not this one."""
    photo = packaged_onnx("x").with_name("chelsea.png")
    with av.open(str(photo)) as container:
        assert container.streams.video[0].codec_context.name == "png"
    code = """
import gc, sys
from pathlib import Path
from allfocus.runtime.streams import like_source
assert like_source._display_matrix(Path(sys.argv[1])) is None
gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", code, photo], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "codec", "encoder"),
    [("out.mp4", "h264", "libx264"), ("out.webm", "vp9", "libvpx-vp9"), ("out.gif", "gif", None)],
)
def test_a_moving_gif_becomes_what_the_container_holds(
    tmp_path: Path, name: str, codec: str, encoder: str | None
) -> None:
    """Its sides are odd, which H.264 takes at the full resolution of colour alone."""
    pictures = [Image.fromarray(moving(index, 97, 65)) for index in range(3)]
    path = tmp_path / "in.gif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=40)
    sink = converted(path, tmp_path / name)
    said = [note for note in sink.notes if "holds no gif" in note]
    assert said == ([f"{name[4:]} holds no gif: written with {encoder}"] if encoder else [])
    with av.open(str(tmp_path / name)) as written:
        context = written.streams.video[0].codec_context
        assert (context.name, context.width, context.height) == (codec, 97, 65)
        assert not encoder or context.pix_fmt == "yuv444p"
        assert len(list(written.decode(video=0))) == 3


def test_a_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("so and so\n" * 50)
    with pytest.raises(InputError, match="a text file, not a video"):
        VideoSource(tmp_path / "notes.txt")
