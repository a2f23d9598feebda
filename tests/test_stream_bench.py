"""`allfocus bench stream`: a clip through a pipeline, beside its frames alone."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("av", reason="video needs PyAV")
pytest.importorskip("skimage", reason="the clip is made of scikit-image's photo")

from allfocus import cli


def test_it_measures_both(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "stream", "--size", "64x48", "--frames", "4", "--repeats", "2"]
    assert cli.main([*words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "allfocus/stream/1"
    assert 0 < report["share"]["median"] <= 2
    assert 0 < report["around"] < 1
    assert report["bare"]["median"] > 0
    assert cli.main(words) == 0
    assert "of the bare rate" in capsys.readouterr().out


def test_a_clip_larger_than_the_photo_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "stream", "--size", "4000x3000"]) == 2
    assert "take less" in capsys.readouterr().err
