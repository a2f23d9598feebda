"""Video files in and out: what must stay as it was, and files that are not what they seem."""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")

import av
import cv2
from clips import RATE, decoded, moving, sound_of, timestamps, write_clip

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import Graph, Io, Matrix, Range
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.frames import Damaged, StreamFrame
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


def graph(io: Io, matrix: Matrix = "bt709", limits: Range = "limited") -> Graph:
    return Graph(io=io, precision="fp32", color="bgr", shapes=None, matrix=matrix, range=limits)


def converted(
    given: Path,
    out: Path,
    function: Any = pass_through,
    taker: Graph | None = None,
    **encoding: Any,
) -> VideoSink:
    source = VideoSource(given, taker or graph("float"))
    sink = VideoSink(out, source, Encoding(**encoding))
    Pipeline(source, function, sink).run()
    return sink


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


@pytest.mark.parametrize(
    ("pixels", "codec", "suffix"),
    [
        ("yuv444p", "ffv1", ".mkv"),
        ("yuv420p10le", "ffv1", ".mkv"),
        ("yuv422p", "ffv1", ".mkv"),
        ("yuv420p", "ffv1", ".mkv"),
    ],
)
def test_what_does_not_change_stays_to_the_bit(
    tmp_path: Path, pixels: str, codec: str, suffix: str
) -> None:
    """Through a codec without loss, so that only the way to BGR and back could show."""
    given = write_clip(tmp_path / f"in{suffix}", 3, pixels=pixels, codec=codec, sound=False)
    converted(given, tmp_path / f"out{suffix}")
    for one, other in zip(decoded(given), decoded(tmp_path / f"out{suffix}"), strict=True):
        assert other.format.name == pixels
        np.testing.assert_array_equal(other.to_ndarray(), one.to_ndarray())


def test_ten_bits_come_as_sixteen_and_eight_as_eight(tmp_path: Path) -> None:
    for pixels, io, kind in (
        ("yuv420p10le", "float", np.uint16),
        ("yuv420p10le", "frame", np.uint8),
        ("yuv420p", "float", np.uint8),
        ("yuv420p", "frame16", np.uint16),
    ):
        path = write_clip(tmp_path / "in.mkv", 2, pixels=pixels, codec="ffv1", sound=False)
        source = VideoSource(path, graph(io))
        frames = list(source.frames())
        assert [f.image.dtype for f in frames] == [kind, kind]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("io", "pixels", "kind"),
    [("nv12", "yuv420p", np.uint8), ("p010", "yuv420p10le", np.uint16)],
)
def test_luma_and_chroma_go_through_as_they_were_decoded(
    tmp_path: Path, io: Io, pixels: str, kind: type
) -> None:
    given = write_clip(tmp_path / "in.mkv", 3, pixels=pixels, codec="ffv1", sound=False)
    source = VideoSource(given, graph(io))
    frames = [frame for frame in source.frames() if isinstance(frame, StreamFrame)]
    for frame, one in zip(frames, decoded(given), strict=True):
        assert (frame.image.shape, frame.image.dtype) == ((96, 96), kind)
        if io == "nv12":  # OpenCV reads it as it is meant
            colour = cv2.cvtColor(frame.image, cv2.COLOR_YUV2BGR_NV12).astype(int)
            assert np.abs(colour - one.to_ndarray(format="bgr24")).mean() < 2
    converted(given, tmp_path / "out.mkv", taker=graph(io))
    for one, other in zip(decoded(given), decoded(tmp_path / "out.mkv"), strict=True):
        assert other.format.name == pixels
        np.testing.assert_array_equal(other.to_ndarray(), one.to_ndarray())
    step = 64 if io == "p010" else 1
    brighter = lambda image: Result(image + kind(9 * step), None, {})  # noqa: E731
    converted(given, tmp_path / "out.mkv", brighter, graph(io))
    for one, other in zip(decoded(given), decoded(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(other.to_ndarray(), one.to_ndarray() + kind(9))


def test_eight_bits_go_through_p010_unchanged(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mkv", 2, codec="ffv1", sound=False)
    converted(given, tmp_path / "out.mkv", taker=graph("p010"))
    for one, other in zip(decoded(given), decoded(tmp_path / "out.mkv"), strict=True):
        assert other.format.name == "yuv420p"
        np.testing.assert_array_equal(other.to_ndarray(), one.to_ndarray())


@pytest.mark.parametrize(
    ("io", "clip", "text"),
    [
        ("nv12", {"pixels": "yuv420p10le"}, "yuv420p10le, which nv12 would not hold.*--io p010"),
        ("nv12", {"pixels": "yuv444p"}, "yuv444p, which nv12 would not hold.*without --io"),
        ("p010", {"pixels": "bgr0"}, "bgr0, which p010 would not hold: take a model without --io"),
        ("nv12", {"width": 95}, "nv12 takes even sizes, and this is 95x64: crop it"),
        (
            "nv12",
            {"tags": {"colorspace": 6, "color_range": 1}},
            "holds bt601 limited, and the model takes bt709 limited: .*--matrix bt601 --range lim",
        ),
        ("nv12", {"tags": {"color_range": 2}}, "holds bt709 full.*--matrix bt709 --range full"),
    ],
)
def test_samples_of_another_kind_are_refused(
    tmp_path: Path, io: Io, clip: dict[str, Any], text: str
) -> None:
    given = write_clip(tmp_path / "in.mkv", 2, **{"codec": "ffv1", "sound": False, **clip})
    with pytest.raises(UsageError, match=text):
        VideoSource(given, graph(io))


@pytest.mark.parametrize(
    ("pixels", "taker", "model", "refused"),
    [
        ("yuv420p", None, "frame16", "handed over in 8 bits, and the model takes frame16"),
        ("yuv420p10le", None, "frame16", "handed over in 8 bits, and the model takes frame16"),
        ("yuv420p10le", "float", "frame", "handed over in 16 bits, and the model takes frame"),
        ("yuv420p", "frame16", "frame", "handed over in 16 bits, and the model takes frame"),
        ("yuv420p", "float", "frame", None),
        ("yuv420p10le", "float", "frame16", None),
        ("yuv420p", "frame16", "float", None),
    ],
)
def test_a_model_of_another_depth_is_refused_before_the_first_frame(
    tmp_path: Path, pixels: str, taker: Io | None, model: Io, refused: str | None
) -> None:
    given = write_clip(tmp_path / "in.mkv", 2, codec="ffv1", pixels=pixels, sound=False)
    source = VideoSource(given, None if taker is None else graph(taker))
    deblurrer: Any = SimpleNamespace(graph=graph(model), color="bgr")
    with nullcontext() if refused is None else pytest.raises(UsageError, match=refused):
        source.check(deblurrer)
    source.close()


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


def test_pixels_of_another_kind_are_written_too(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mkv", 3, pixels="bgr0", codec="ffv1", sound=False)
    converted(given, tmp_path / "out.mkv")
    for one, other in zip(decoded(given), decoded(tmp_path / "out.mkv"), strict=True):
        before, after = (f.to_ndarray(format="bgr24").astype(int) for f in (one, other))
        assert np.abs(before - after).max() <= 1


def test_an_encoder_that_lacks_a_pixel_format_takes_another_and_says_so(tmp_path: Path) -> None:
    given = write_clip(tmp_path / "in.mkv", 3, pixels="bgr0", codec="ffv1", sound=False)
    sink = converted(given, tmp_path / "out.mp4", codec="mpeg4")
    assert sink.notes == ["mpeg4 does not take pixels as bgr0: written as yuv420p"]
    assert len(decoded(tmp_path / "out.mp4")) == 3


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


@pytest.mark.parametrize("pixels", ["yuv420p12le", "yuv411p", "yuv440p", "yuva420p", "yuv422p12le"])
def test_colours_stay_in_every_kind_of_pixels(tmp_path: Path, pixels: str) -> None:
    tags = {"color_range": 1, "colorspace": 1}
    given = write_clip(tmp_path / "in.mkv", 2, pixels=pixels, codec="ffv1", sound=False, tags=tags)
    sink = converted(given, tmp_path / "out.mkv")
    assert ("what was transparent becomes solid" in "".join(sink.notes)) == ("a" in pixels)
    for one, other in zip(decoded(given), decoded(tmp_path / "out.mkv"), strict=True):
        before, after = (f.to_ndarray(format="bgr24").astype(int) for f in (one, other))
        assert np.abs(np.mean(after - before, axis=(0, 1))).max() < 3  # swscale rounds down
        assert int(other.colorspace) == 1


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
