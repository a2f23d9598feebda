"""Kinds of pixels in videos: how they come, what stays of them, and which are refused."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="video needs PyAV")

import cv2
from clips import decoded, write_clip
from video_runs import converted, graph

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import Io
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.video import VideoSource


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
