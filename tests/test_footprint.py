"""What is measured of a file's memory: at which size, and what where it cannot be."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from allfocus.export import footprint
from allfocus.export.footprint import _within
from allfocus.runtime.child import output_of
from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.spec import Shapes, Size


@pytest.mark.parametrize(
    ("shapes", "measured"),
    [
        (None, Size(512, 384)),
        (Shapes.static(Size(64, 48)), Size(64, 48)),
        (Shapes(Size(16, 16), Size(160, 128), Size(3840, 2160)), Size(512, 384)),
        (Shapes(Size(640, 480), Size(640, 480), Size(1920, 1088)), Size(640, 480)),
    ],
)
def test_no_larger_a_frame_is_run_than_is_needed(shapes: Shapes | None, measured: Size) -> None:
    backend = SimpleNamespace(graph=SimpleNamespace(shapes=shapes))
    assert _within(backend, footprint._SIZE) == measured  # type: ignore[arg-type]


def test_a_figure_that_cannot_be_had_costs_no_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"as it was")

    def killed(_: Path) -> float:
        raise AllfocusError("measuring failed: killed by signal 9, as for too little memory")

    monkeypatch.setattr(footprint, "measure", killed)
    with caplog.at_level(logging.WARNING):
        footprint.write_down(path)
    assert path.read_bytes() == b"as it was"
    assert "killed by signal 9" in caplog.text


def test_a_process_that_was_killed_says_so() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(AllfocusError, match="it failed: killed by signal 9, as for too little"):
        output_of(["-c", code], "it")
