"""What goes beside the pictures of a video: sound that stays in time, and what cannot be kept."""

from __future__ import annotations

import errno
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")

import av
from clips import decoded, moving, sound_of

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.ffmpeg import Encoding
from allfocus.runtime.streams.ladder import pass_through
from allfocus.runtime.streams.simple import Frames
from allfocus.runtime.streams.video import VideoSource
from allfocus.runtime.streams.video_sink import VideoSink

HERTZ = 48_000
SECONDS = 0.4


def tone(container: Any, stream: Any, samples: int) -> None:
    """A silent one, in packets of `samples`, where the codec leaves that open."""
    for start in range(0, round(SECONDS * HERTZ), samples):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.int16), "s16", "mono")
        frame.rate, frame.pts = HERTZ, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def clip(path: Path, sounds: tuple[str, ...], samples: int = 960, videos: int = 1) -> Path:
    """Ten frames of 0.04 s, with a sound of each codec."""
    with av.open(str(path), "w") as container:
        pictures: list[Any] = [
            container.add_stream("libx264", rate=25, options={"bf": "0"}) for _ in range(videos)
        ]
        for stream in pictures:
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        heard: list[Any] = [container.add_stream(codec, rate=HERTZ) for codec in sounds]
        for stream in heard:
            stream.layout = "mono"
        for stream in pictures:
            for index in range(10):
                frame = av.VideoFrame.from_ndarray(moving(index, 96, 64), format="bgr24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        for stream in heard:
            tone(container, stream, samples)
    return path


def converted(given: Path, out: Path, codec: str | None = None) -> VideoSink:
    source = VideoSource(given)
    sink = VideoSink(out, source, Encoding(codec))
    Pipeline(source, pass_through, sink).run()
    assert len(decoded(out)) == len(decoded(given))
    return sink


def codecs(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.codec.canonical_name for stream in container.streams]


def sound_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        packets = container.demux(audio=0)
        return [float(p.dts * (p.time_base or 0)) for p in packets if p.dts is not None]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_in_packets_shorter_than_a_tick_keeps_its_time(tmp_path: Path, suffix: str) -> None:
    """Some begin at once, in the milliseconds of .mkv."""
    given = clip(tmp_path / "in.mkv", ("pcm_s16le",), samples=40)
    assert len(set(sound_times(given))) < len(sound_times(given)) == 480
    sink = converted(given, tmp_path / f"out{suffix}")
    assert (sink.retimed_sound, sink.notes) == (0, [])
    found = sound_times(tmp_path / f"out{suffix}")
    assert found[-1] == pytest.approx(SECONDS, abs=0.03)  # .mp4 is read in larger pieces
    assert sum(map(len, sound_of(tmp_path / f"out{suffix}"))) == 2 * SECONDS * HERTZ


@pytest.mark.parametrize(
    ("sounds", "suffix", "kept", "left_out"),
    [
        (("libopus",), ".mov", [], ["audio 1 (opus) is left out: mov does not take it; .mkv take"]),
        (("pcm_s16le",), ".flv", [], ["audio 1 (pcm_s16le) is left out: flv does not take it"]),
        (("aac", "flac"), ".mov", ["aac"], ["audio 2 (flac) is left out: mov does not take it"]),
        (("flac",), ".ts", [], ["audio 1 (flac) is left out: players do not find it in mpegts"]),
        (("mp2", "pcm_s16le"), ".ts", ["mp2"], ["audio 2 (pcm_s16le) is left out: players do"]),
    ],
)
def test_sound_that_a_container_does_not_take_is_left_out(
    tmp_path: Path, sounds: tuple[str, ...], suffix: str, kept: list[str], left_out: list[str]
) -> None:
    given = clip(tmp_path / "in.mkv", sounds)
    sink = converted(given, tmp_path / f"out{suffix}")
    assert codecs(tmp_path / f"out{suffix}") == ["h264", *kept]
    assert len(sink.notes) == len(left_out)
    for note, text in zip(sink.notes, left_out, strict=True):
        assert note.startswith(text)


def test_subtitles_that_nobody_would_find_are_left_out(tmp_path: Path) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:00,000 --> 00:00:00,300\nhello\n")
    given, plain = tmp_path / "in.mkv", clip(tmp_path / "plain.mkv", ("aac",))
    joined(given, [plain, words])
    assert converted(given, tmp_path / "out.mkv").notes == []
    assert codecs(tmp_path / "out.mkv") == ["h264", "aac", "subrip"]
    sink = converted(given, tmp_path / "out.ts")
    assert sink.notes == ["subtitle 2 (subrip) is left out: players do not find it in mpegts"]
    assert codecs(tmp_path / "out.ts") == ["h264", "aac"]


def joined(path: Path, parts: list[Path], change: Callable[[Any], None] = lambda _: None) -> None:
    """All streams of the parts in one file."""
    given = [av.open(str(part)) for part in parts]
    with av.open(str(path), "w") as container:
        change(container)
        target: Any = container
        streams = {
            (n, s.index): target.add_stream_from_template(s, opaque=True)
            for n, part in enumerate(given)
            for s in part.streams
        }
        for n, part in enumerate(given):
            for packet in part.demux():
                if packet.dts is not None:
                    packet.stream = streams[n, packet.stream.index]
                    container.mux(packet)
    for part in given:
        part.close()


@pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "set_chapters"), reason="this PyAV makes no chapters"
)
def test_all_else_that_is_not_kept_is_noted(tmp_path: Path) -> None:
    def more(container: Any) -> None:
        base = Fraction(1, 1000)
        chapter = {"id": 1, "start": 0, "end": 200, "time_base": base, "metadata": {"title": "a"}}
        container.set_chapters([chapter])
        container.add_attachment("note.txt", "text/plain", b"see there")

    given = tmp_path / "in.mkv"
    joined(given, [clip(tmp_path / "two.mkv", ("aac",), videos=2)], more)
    sink = converted(given, tmp_path / "out.mkv")
    noted = "\n".join(sink.notes)
    assert len(sink.notes) == 3
    assert "video 1 (h264) is left out: only the first pictures, sound and" in noted
    assert "attachment " in noted
    assert "chapters (1) are left out" in noted
    assert codecs(tmp_path / "out.mkv") == ["h264", "aac"]


@pytest.mark.parametrize("of_a_file", [True, False])
def test_pictures_that_a_container_refuses_at_its_head_are_told_before_the_first(
    tmp_path: Path, of_a_file: bool
) -> None:
    given = clip(tmp_path / "in.mkv", ("aac",))
    source = VideoSource(given) if of_a_file else Frames([moving(0, 96, 64)])
    rate = None if of_a_file else 25
    out = tmp_path / "out.mov"
    with pytest.raises(UsageError, match=r"refuses .*; take \.mp4 or \.mkv, or another --codec"):  # noqa: PT012
        sink = VideoSink(out, source, Encoding("libvpx-vp9"), rate=rate)
        assert not of_a_file
        Pipeline(source, pass_through, sink).run()
    source.close()
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]
    if Path("/proc/self/fd").exists():
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert not [link for link in links if link.is_relative_to(tmp_path)]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (OSError(errno.EFBIG, "File too large"), "File too large; free some space there, or choos"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error; choose another place"),
        (av.error.ArgumentError(errno.EINVAL, "Invalid"), r"Invalid; take \.mkv, or another --cod"),
    ],
)
def test_only_a_full_disk_is_told_to_be_full(
    tmp_path: Path, error: Exception, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Container:
        def mux(self, _: Any) -> None:
            raise error

        def __getattr__(self, name: str) -> Any:
            return getattr(container, name)

    source = Frames([moving(0, 96, 64)] * 5)
    sink = VideoSink(tmp_path / "out.mp4", source, rate=25)
    container = sink._draft.container
    monkeypatch.setattr(sink._draft, "container", Container())
    with pytest.raises(AllfocusError, match=rf"cannot write .*out\.mp4: {advice}"):
        Pipeline(source, pass_through, sink).run()


@pytest.mark.parametrize(("codec", "off"), [("mpeg4", 0.001), ("mpeg2video", 0.017)])
def test_a_changing_rate_is_written_by_encoders_with_few_rates(
    tmp_path: Path, codec: str, off: float
) -> None:
    """Of MPEG-4 no tick is shorter than 1/65535 s; MPEG-2 has a list of rates."""
    given, out, base = tmp_path / "in.mp4", tmp_path / "out.mp4", Fraction(1, 90_000)
    times = [0, 3003, 6006, 9009, 12013, 15016, 30031, 33034, 36037, 39041]
    with av.open(str(given), "w") as container:
        video: Any = container.add_stream("libx264", rate=30, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.time_base = video.codec_context.time_base = base
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(moving(index, 96, 64), format="bgr24")
            frame.pts, frame.time_base = time, base
            container.mux(video.encode(frame))
        container.mux(video.encode())
    with av.open(str(given)) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        assert rate.numerator > 65_535  # what the base was made of
    sink = converted(given, out, codec)
    assert (sink.retimed, sink.notes) == (0, [])
    found = [float((f.pts or 0) * (f.time_base or 0)) for f in decoded(out)]
    assert found == pytest.approx([time / 90_000 for time in times], abs=off)
