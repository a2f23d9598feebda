"""A pipeline with a Deblurrer of several streams: frames in hand at once, results in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from at_once import PATIENCE
from engine_files import SPEC

from allfocus.runtime.backend import Array, Backend, Options
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import Graph, Spec
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.ladder import Attempt, Ladder, Step, pass_through
from allfocus.runtime.streams.simple import Callback, Frames


class Worked(Backend):
    """Inverts, after `work` was called with the frame's number; counts how many are at work."""

    name = "stand-in"
    work: Callable[[int], None]

    def _load(self) -> tuple[Spec, Graph]:
        self.busy = self.most = 0
        self.lock = threading.Lock()
        return SPEC, Graph(io="frame", precision="fp32", color="bgr", shapes=None)

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with self.lock:
            self.busy += 1
            self.most = max(self.most, self.busy)
        try:
            self.work(int(inputs["image"].flat[0]))
        finally:
            with self.lock:
                self.busy -= 1
        return {"sharp": 255 - inputs["image"]}

    def _close(self) -> None:
        pass


def deblurrer(work: Callable[[int], None], streams: int = 3) -> tuple[Deblurrer, Worked]:
    backend = Worked(Path("fake"), Options(streams=streams))
    backend.work = work
    return Deblurrer(backend), backend


def pictures(frames: int) -> list[Any]:
    return [np.full((4, 4 + 4 * (n % 2), 3), n, np.uint8) for n in range(frames)]


class Seen:
    """Where the results go: which frames came, and that each is its own."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, frame: StreamFrame, result: Result) -> None:
        assert (result.image == 255 - frame.index).all()
        self.numbers.append(frame.index)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive(), thread.name


def test_as_many_frames_are_in_hand_as_there_are_streams() -> None:
    together = threading.Barrier(3)
    deblur, backend = deblurrer(lambda _: together.wait(PATIENCE) and None)
    seen = Seen()
    Pipeline(Frames(pictures(12)), deblur, Callback(seen)).run()
    assert seen.numbers == list(range(12))
    assert backend.most == 3


def test_results_leave_in_order_though_some_take_longer() -> None:
    deblur, _ = deblurrer(lambda number: time.sleep(0.01 if number % 3 == 0 else 0.0))
    seen = Seen()
    report = Pipeline(Frames(pictures(40)), deblur, Callback(seen), length=2).run()
    assert seen.numbers == list(range(40))
    assert (report.frames, report.damaged) == (40, 0)


def test_a_frame_that_cannot_be_done_is_left_out_of_the_others() -> None:
    def work(number: int) -> None:
        if number % 5 == 2:
            raise BackendError("no")

    deblur, _ = deblurrer(work)
    seen = Seen()
    report = Pipeline(Frames(pictures(20)), deblur, Callback(seen)).run()
    assert seen.numbers == [n for n in range(20) if n % 5 != 2]
    assert report.damaged == 4
    seen = Seen()
    with pytest.raises(BackendError, match="no"):
        Pipeline(Frames(pictures(20)), deblur, Callback(seen), on_error="stop").run()
    assert seen.numbers == [0, 1]


@pytest.mark.parametrize("good", [0, 1, 5])
def test_an_engine_that_fails_on_every_frame_ends_the_run(good: int) -> None:
    def work(number: int) -> None:
        if number >= good:
            raise BackendError("no more")

    deblur, _ = deblurrer(work)
    seen = Seen()
    pipeline = Pipeline(Frames(pictures(20)), deblur, Callback(seen))
    with pytest.raises(BackendError, match="no more"):
        pipeline.run()
    assert seen.numbers == list(range(good))
    assert pipeline.snapshot().damaged <= 5  # with what other streams had in hand


def test_a_model_that_is_closed_ends_the_run() -> None:
    deblur, _ = deblurrer(lambda _: None)
    deblur.close()
    pipeline = Pipeline(Frames(pictures(20)), deblur, Callback(Seen()))
    with pytest.raises(ArtefactError, match="closed; load it again"):
        pipeline.run()
    assert pipeline.snapshot().damaged == 0


def test_a_model_that_is_closed_after_a_stop_is_no_failure() -> None:
    def stop_and_close(number: int) -> None:
        if number == 3:
            pipeline.stop()
            raise ArtefactError("closed")

    deblur, _ = deblurrer(stop_and_close)
    pipeline = Pipeline(Frames(pictures(20)), deblur, Callback(Seen()))
    assert pipeline.run().damaged == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_breaks_in_any_thread_ends_the_run(error: type[BaseException]) -> None:
    later = threading.Event()

    def work(number: int) -> None:
        if number == 5:
            assert later.wait(PATIENCE)
            raise error
        if number > 5:  # done, and waiting for its turn
            later.set()

    deblur, _ = deblurrer(work)
    seen = Seen()
    with pytest.raises(error):
        Pipeline(Frames(iter(pictures(200))), deblur, Callback(seen)).run()
    assert seen.numbers == list(range(len(seen.numbers)))
    assert len(seen.numbers) <= 5


def test_what_breaks_in_the_sink_ends_the_run() -> None:
    def full(frame: StreamFrame, _: Result) -> None:
        if frame.index == 3:
            raise OSError("disk full")

    deblur, _ = deblurrer(lambda _: None)
    with pytest.raises(OSError, match="disk full"):
        Pipeline(Frames(iter(pictures(200))), deblur, Callback(full), length=1).run()


def test_it_stops_after_the_frames_in_hand() -> None:
    def work(number: int) -> None:
        if number == 4:
            pipeline.stop()

    deblur, _ = deblurrer(work)
    seen = Seen()
    pipeline = Pipeline(Frames(iter(pictures(200))), deblur, Callback(seen), length=2)
    report = pipeline.run()
    assert seen.numbers == list(range(report.frames))
    assert 5 <= report.frames <= 7


def test_a_deadline_steps_down_and_each_step_keeps_its_own_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done, counted = Ladder.done, []

    def told(self: Ladder, attempt: Attempt, seconds: float) -> None:
        counted.append((attempt.at, attempt.first))
        done(self, attempt, seconds)

    monkeypatch.setattr(Ladder, "done", told)

    def steady() -> Iterator[Any]:
        for picture in pictures(60):
            time.sleep(0.01)
            yield picture[:, :4]

    deblur, backend = deblurrer(lambda _: time.sleep(0.05))
    skipped: list[float] = []
    pipeline = Pipeline(
        Frames(steady(), live=True),
        deblur,
        Callback(lambda frame, result: skipped.append(result.skipped)),  # noqa: ARG005
        deadline_ms=30,
        ladder=[Step("as it is", pass_through)],
    )
    report = pipeline.run()
    assert report.missed >= 1
    assert skipped.count(1.0) > 15
    assert report.step_name == "as it is"
    at = [step for step, _ in counted]
    prepared = 2 * backend.options.streams  # each thread does that on its first frame
    assert at.count(0) == backend.calls >= 3
    assert at.count(1) == skipped.count(1.0) + prepared
    assert 1 <= counted.count((0, True)) <= backend.options.streams  # begun when none was over
