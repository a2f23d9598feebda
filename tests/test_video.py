"""Video files in and out: what must stay as it was, and files that are not what they seem."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")

import av
from clips import RATE, decoded, moving, sound_of, timestamps, write_clip
from video_runs import converted

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.frames import Damaged
from allfocus.runtime.streams.ladder import pass_through
from allfocus.runtime.streams.like_source import LikeSource
from allfocus.runtime.streams.simple import Callback
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink


def _has(codec: str) -> bool:
    try:
        return bool(av.Codec(codec, "w"))
    except (ValueError, av.error.FFmpegError):
        return False


def test_everything_but_the_pictures_stays(tmp_path: Path) -> None:
    tags = {"color_range": 1, "color_primaries": 1, "color_trc": 1, "colorspace": 1}
    given = write_clip(tmp_path / "in.mp4", tags=tags)
    sink = converted(given, tmp_path / "out.mp4", lambda image: Result(255 - image, None, {}))
    assert sink.notes == []
    assert sink.retimed == 0
    before, after = decoded(given), decoded(tmp_path / "out.mp4")
    assert [f.pts for f in after] == [f.pts for f in before] == timestamps(12)
    assert {f.format.name for f in after} == {"yuv420p"}
    for name in ("color_range", "colorspace"):
        assert {int(getattr(f, name)) for f in after} == {1}
    assert sound_of(tmp_path / "out.mp4") == sound_of(given)
    for one, other in zip(before, after, strict=True):
        inverted = 255 - one.to_ndarray(format="bgr24").astype(float)
        assert np.abs(other.to_ndarray(format="bgr24") - inverted).mean() < 4
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert container.metadata["title"] == "a cat"
        assert abs(container.duration - 12 / 25 * 1e6) < 5e4


@pytest.mark.parametrize("suffix", [".mpg", ".ogv", ".mp4", ".avi"])
def test_a_container_of_one_rate_says_what_becomes_of_uneven_frames(
    tmp_path: Path, suffix: str
) -> None:
    if suffix == ".ogv" and not _has("libvpx"):
        pytest.skip("PyAV here has no libvpx")
    codec = {".ogv": "libvpx", ".mpg": "mpeg2video"}.get(suffix, "mpeg4")
    for step in (0, 400):
        source = VideoSource(write_clip(tmp_path / "in.mp4", 4, sound=False))
        sink = VideoSink(tmp_path / f"out{suffix}", source, Encoding(codec=codec))
        for frame in source.frames():
            assert not isinstance(frame, Damaged)
            frame.origin.pts += step * frame.index**2
            sink.write(frame, pass_through(frame.image))
        sink.close()
        told = any("shown evenly" in note for note in sink.notes)
        assert told == (step > 0 and suffix in (".mpg", ".ogv"))


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV turns no pictures"
)
def test_pictures_stay_turned_as_they_are_shown(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mp4", 3, turned=90)
    sink = converted(given, tmp_path / "out.mp4")
    assert sink.notes == []
    assert {frame.rotation for frame in decoded(given)} == {90}
    assert {frame.rotation for frame in decoded(tmp_path / "out.mp4")} == {90}


def test_sound_goes_on_to_its_end(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mp4", 5, tone=1.5)
    converted(given, tmp_path / "out.mp4")
    assert sound_of(tmp_path / "out.mp4") == sound_of(given)


def test_the_last_picture_stays_as_long(tmp_path: Path) -> None:
    """As the last slide of a talk."""
    given = tmp_path / "in.mp4"
    with av.open(str(given), "w") as container:
        video: Any = container.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(moving(index, 96, 64), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(video.encode(frame))
        packets = list(video.encode())
        packets[-1].duration = 30
        for packet in packets:
            container.mux(packet)
    converted(given, tmp_path / "out.mp4")
    lengths = [_seconds(path) for path in (given, tmp_path / "out.mp4")]
    assert lengths[0] > 3
    assert lengths[1] == pytest.approx(lengths[0], abs=0.11)  # a frame, as B-frames are counted


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_clip_of_changing_rate_stays_as_long(tmp_path: Path, suffix: str) -> None:
    """As phones record in the dark; the last frame stays as long as the one before."""
    given, times = tmp_path / f"in{suffix}", [0, 40, 50, 500, 540, 580, 1500]
    with av.open(str(given), "w") as container:
        video: Any = container.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(moving(index, 96, 64), format="bgr24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(video.encode(frame))
        packets = list(video.encode())
        packets[-1].duration = 920
        container.mux(packets)
    converted(given, tmp_path / f"out{suffix}")
    lengths = []
    for name in ("in", "out"):
        with av.open(str(tmp_path / f"{name}{suffix}")) as container:
            assert container.duration is not None
            lengths.append(container.duration / 1e6)
    assert lengths == pytest.approx([2.42, 2.42], abs=0.002)


def _seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float(stream.duration * stream.time_base)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sound_that_jumps_back_follows_what_was_before(tmp_path: Path, suffix: str) -> None:
    """Two recordings, one behind the other in a file."""
    once = write_clip(tmp_path / "once.ts").read_bytes()
    (tmp_path / "in.ts").write_bytes(once + once)
    sink = converted(tmp_path / "in.ts", tmp_path / f"out{suffix}")
    assert sink.retimed == 12
    assert sink.retimed_sound >= 1
    assert len(decoded(tmp_path / f"out{suffix}")) == 24
    assert len(sound_of(tmp_path / f"out{suffix}")) == len(sound_of(tmp_path / "in.ts"))


@pytest.mark.parametrize(
    ("clip", "out", "codec"),
    [
        ({"codec": "mpeg2video", "options": {}, "base": Fraction(1, RATE)}, "out.mkv", None),
        ({"codec": "mpeg2video", "options": {}, "base": Fraction(1, RATE)}, "out.ts", None),
        ({}, "out.ts", "mpeg4"),
        ({"codec": "libvpx", "options": {"crf": "10", "b": "9000000"}}, "out.mkv", None),
        ({"codec": "mpeg4", "options": {"b": "9000000"}}, "out.mkv", None),
    ],
)
def test_encoders_with_ways_of_their_own_keep_the_picture(
    tmp_path: Path, clip: dict[str, Any], out: str, codec: str | None
) -> None:
    given = write_clip(tmp_path / ("in.mkv" if clip else "in.ts"), **clip)
    sink = converted(given, tmp_path / out, codec=codec)
    assert sink.notes == []
    pairs = list(zip(decoded(given), decoded(tmp_path / out), strict=True))
    assert len(pairs) == 12
    errors = [
        np.square(np.subtract(*(f.to_ndarray(format="bgr24").astype(float) for f in pair))).mean()
        for pair in pairs
    ]
    assert 10 * np.log10(255**2 / np.mean(errors)) > 36


def test_an_encoder_without_a_quality_says_so(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mkv", 2, sound=False)
    sink = converted(given, tmp_path / "out.mkv", codec="prores")
    assert any("prores takes no --quality: it is given" in note for note in sink.notes)


@pytest.mark.skipif(not _has("libsvtav1"), reason="this FFmpeg encodes no AV1")
def test_av1_stays_av1(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mkv", 2, codec="libsvtav1", sound=False)
    sink = converted(given, tmp_path / "out.mkv")
    assert sink.notes == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "av1"


def test_an_early_end_leaves_a_file_that_plays(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mp4", 25)
    source = VideoSource(given)
    sink = VideoSink(tmp_path / "out.mp4", source)
    done = 0

    def count(image: Any) -> Result:
        nonlocal done
        done += 1
        if done == 10:
            pipeline.stop()
        return pass_through(image)

    pipeline = Pipeline(source, count, sink)
    pipeline.run()
    assert [f.pts for f in decoded(tmp_path / "out.mp4")] == timestamps(25)[:10]
    seconds = len(sound_of(tmp_path / "out.mp4")) * 1024 / 44_100
    assert 0.3 < seconds < 0.6  # as far as the pictures


def test_the_source_may_end_before_the_last_frame_is_written(tmp_path: Path) -> None:
    """Reading closes FFmpeg's stream, which must not be looked at any more."""
    source = VideoSource(write_clip(tmp_path / "in.mp4", 3))
    sink = VideoSink(tmp_path / "out.mp4", source)
    frames = list(source.frames())
    assert isinstance(sink._manner, LikeSource)
    sink._manner._given = None
    for frame in frames:
        assert not isinstance(frame, Damaged)
        frame.origin.pts = None
        sink.write(frame, pass_through(frame.image))
    sink.close()
    assert len(decoded(tmp_path / "out.mp4")) == 3


def test_timestamps_that_jump_back_are_mended(tmp_path: Path) -> None:
    source = VideoSource(write_clip(tmp_path / "in.mp4", 6))
    sink = VideoSink(tmp_path / "out.mp4", source)
    for index, frame in enumerate(source.frames()):
        assert not isinstance(frame, Damaged)
        frame.origin.pts = [1024, 2048, 1500, None, 6000, 9000][index]
        sink.write(frame, pass_through(frame.image))
    sink.close()
    assert sink.retimed == 2
    steps = np.diff([f.pts for f in decoded(tmp_path / "out.mp4")]).tolist()
    assert steps[1] == steps[2] == pytest.approx(512, rel=0.05)  # one frame of its mean rate
    assert steps[0] == 1024
    assert steps[3] == 6000 - 2048 - 2 * steps[1]
    assert steps[4] == 3000


def test_a_damaged_middle_loses_its_frames_alone(tmp_path: Path) -> None:
    """Every frame of MJPEG stands for itself."""
    given = write_clip(tmp_path / "in.mkv", 10, codec="mjpeg", pixels="yuvj420p", sound=False)
    data = bytearray(given.read_bytes())
    start = data.index(b"\xff\xd8", len(data) // 2)
    data[start : start + 600] = bytes(600)
    given.write_bytes(data)
    seen: list[int] = []
    source = VideoSource(given)
    report = Pipeline(
        source, pass_through, Callback(lambda frame, _: seen.append(frame.origin.pts))
    ).run()
    assert 8 <= report.frames <= 9
    assert len(set(seen)) == len(seen)


def test_a_frame_of_another_size_is_refused(tmp_path: Path) -> None:
    source = VideoSource(write_clip(tmp_path / "in.mp4", 4))
    sink = VideoSink(tmp_path / "out.mp4", source)
    with pytest.raises(InputError, match=r"frame 0 is 48x64, and out\.mp4 is 96x64"):
        Pipeline(source, lambda image: pass_through(image[:, ::2]), sink).run()
    assert list(tmp_path.iterdir()) == [tmp_path / "in.mp4"]  # nothing is left of it


@pytest.mark.parametrize("content", [b"", b"not a video at all", None])
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "in.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="not a video that can be read"):
        VideoSource(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "in.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        stream: Any = container.add_stream("aac", rate=44_100)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), "s16", "mono")
        frame.rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match="no pictures in it"):
        VideoSource(path)


@pytest.mark.parametrize(
    ("name", "codec", "text"),
    [
        ("out.xyz", None, "cannot be written as a video"),
        ("out.mp4", "no-such-codec", "PyAV here has no such encoder"),
        ("out.mp4", "h264_but_not", "PyAV here has no such encoder"),
        ("out.mp4", "aac", "PyAV here has no such encoder of pictures"),
        ("out.mp4", "subrip", "PyAV here has no such encoder of pictures"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(
    tmp_path: Path, name: str, codec: str | None, text: str
) -> None:
    source = VideoSource(write_clip(tmp_path / "in.mp4", 2))
    with pytest.raises(UsageError, match=text):
        VideoSink(tmp_path / name, source, Encoding(codec=codec))
    assert list(tmp_path.iterdir()) == [tmp_path / "in.mp4"]
