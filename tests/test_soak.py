"""Many frames of mixed sizes: nothing grows, nothing is left."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_graphs import Floats

from allfocus.runtime.backend import Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.memory import resident
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.simple import Callback, Frames

_HANDLES = Path("/proc/self/fd")


def pictures(count: int, seed: int) -> Any:
    """Frames of 16 to 160 pixels a side: grey, colour, with alpha."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (160, 160, 4)).astype(np.uint8)
    for _ in range(count):
        height, width = rng.integers(16, 161, 2)
        channels = (1, 3, 4)[int(rng.integers(3))]
        yield np.ascontiguousarray(noise[:height, :width, :channels])


def soaked(floats: Floats, frames: int) -> float:
    """By how much resident memory grew from half of the frames to all, as a share."""
    opened = [
        OrtBackend(floats.file("didanet-tiny", phase), Options(threads=1))  # type: ignore[arg-type]
        for phase in ("whole", "estimate", "restore")
    ]
    threads = set(threading.enumerate())
    handles = len(os.listdir(_HANDLES)) if _HANDLES.is_dir() else 0  # noqa: PTH208
    seen = 0
    with Deblurrer(opened[0], phases=lambda: (opened[1], opened[2]), skip="auto") as deblur:
        marks = []
        for part in range(2):
            report = Pipeline(
                Frames(pictures(frames // 2, part)), deblur, Callback(lambda *_: None)
            ).run()
            seen += report.frames
            gc.collect()
            marks.append(resident())
    assert seen == frames // 2 * 2
    assert set(threading.enumerate()) == threads
    if _HANDLES.is_dir():
        assert len(os.listdir(_HANDLES)) <= handles  # noqa: PTH208
    if marks[0] is None or marks[1] is None:
        pytest.skip("this system does not tell its memory without psutil")
    return marks[1] / marks[0] - 1


def test_a_thousand_frames_leave_nothing(floats: Floats) -> None:
    assert soaked(floats, 1000) < 0.02


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="measured on Linux")
def test_twenty_thousand_frames_leave_nothing(floats: Floats) -> None:
    """The issue's figure: less than 1 %."""
    assert soaked(floats, 20_000) < 0.01
