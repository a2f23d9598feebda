"""`allfocus bench throughput`: as many calls at once as streams, and what that brings."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from allfocus import cli
from allfocus.benchmarks import throughput
from allfocus.benchmarks.machine import describe
from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import Size


def test_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "throughput", "--size", "64x48", "--streams", "2", "--frames", "2"]
    assert cli.main([*words, "--repeats", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "allfocus/throughput/1"
    assert [row["streams"] for row in report["rows"]] == [1, 2]
    assert report["rows"][0]["against_one"]["median"] == 1
    assert report["backend"] in ("cpu", "openvino")  # the faster of those that are installed
    assert report["model"] == "didanet-lite"
    assert report["frames"] == 2


def stand_in(monkeypatch: pytest.MonkeyPatch, io: str = "frame") -> dict[int, int]:
    """A machine on which a call takes as long beside others as alone; notes how many were."""
    most: dict[int, int] = {}

    @contextmanager
    def load(model: str, *, streams: int = 1, **_: Any) -> Iterator[Any]:
        lock, now = threading.Lock(), 0

        def call(_: Any) -> None:
            nonlocal now
            with lock:
                now += 1
                most[streams] = max(now, most.get(streams, 0))
            time.sleep(0.02)
            with lock:
                now -= 1

        call_it = type("Deblur", (), {"__call__": lambda _, frame: call(frame)})()
        call_it.spec, call_it.backend = SimpleNamespace(name=model), "stand-in"
        call_it.graph, call_it.precision = SimpleNamespace(precision="fp32", io=io), "fp16"
        yield call_it

    monkeypatch.setattr(throughput, "load", load)
    return most


def test_streams_are_called_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    most = stand_in(monkeypatch)
    report = throughput.measure("any", [4, 2], Size(8, 8), 1, 3, "auto", describe())
    assert most == {1: 1, 2: 2, 4: 4}
    assert report.frames == 4  # a block has as many for each thread
    by_streams = {row.streams: row for row in report.rows}
    assert list(by_streams) == [1, 2, 4]
    assert by_streams[4].against_one.median > 1.5  # 4, on an idle machine
    assert by_streams[1].latency_ms.median >= 20
    assert "stand-in, fp16, 8x8, 4 frames a block" in throughput.text(report)


@pytest.mark.parametrize(
    ("streams", "asked", "frames"), [([3], 16, 18), ([2, 3], 6, 6), ([1], 5, 5), ([5, 2], 1, 10)]
)
def test_no_thread_is_idle_at_the_end_of_a_block(
    monkeypatch: pytest.MonkeyPatch, streams: list[int], asked: int, frames: int
) -> None:
    stand_in(monkeypatch)
    report = throughput.measure("any", streams, Size(8, 8), asked, 1, "auto", describe())
    assert report.frames == frames


def test_a_model_for_other_frames_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "nv12")
    with pytest.raises(UsageError, match=r"x\.engine takes nv12; measure the one for colour"):
        throughput.measure("x.engine", [2], Size(8, 8), 1, 1, "auto", describe())


@pytest.mark.parametrize("wrong", [["--streams", "0"], ["--frames", "x"], ["--size", "8"]])
def test_wrong_options_are_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "throughput", *wrong]) == 2
    assert wrong[0] in capsys.readouterr().err
