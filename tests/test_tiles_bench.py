"""`allfocus bench tiles`: its frames, its rows, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("skimage", reason="the frames are made of scikit-image's photos")

from allfocus import cli
from allfocus.benchmarks.tiles import frame
from allfocus.runtime.spec import Size
from allfocus.train.camera import to_linear


def test_a_frame_is_blurred_in_its_band_alone() -> None:
    sharp, blurred = frame(Size(900, 100), 0.0), frame(Size(900, 100), 0.3)
    assert sharp.shape == (100, 900, 3)
    np.testing.assert_array_equal(sharp[30:], blurred[30:])
    detail = [np.abs(np.diff(f[:25].astype(int), axis=1)).mean() for f in (sharp, blurred)]
    assert detail[1] < 0.6 * detail[0]


def test_the_band_is_as_light_as_the_photo() -> None:
    sharp, blurred = (frame(Size(900, 400), share)[:120] for share in (0.0, 0.3))
    light = [
        to_linear(part.astype(np.float32) / np.float32(255)).mean() for part in (sharp, blurred)
    ]
    assert light[1] == pytest.approx(light[0], rel=0.03)


def test_rows_compare_tiles_and_skipping_with_the_frame_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["bench", "tiles", "--size", "480x160", "--memory", "120MiB", "--repeats", "1"]
    assert cli.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "allfocus/tiles/2"
    assert [row["name"] for row in report["rows"]] == ["at once", "tiles", "skipping"]
    for row in report["rows"]:
        assert row["largest_difference"] <= 1
        assert row["differing"] < 1e-3
        assert row["nanoseconds_per_pixel"] > 0
        assert row["peak_bytes"] is None or row["peak_bytes"] > 0
    assert report["rows"][0]["ratio"]["median"] == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--memory", "much"], "expected bytes, or an amount such as 2GiB"),
        (["--blurred", "2"], "expected a share of up to 1"),
        (["--size", "9"], "expected WIDTHxHEIGHT"),
    ],
)
def test_what_is_meaningless_is_refused(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(["bench", "tiles", *words])
    assert status == 2
    assert text in capsys.readouterr().err
