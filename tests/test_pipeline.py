"""A pipeline's threads: order, overlap, what is dropped, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.streams.frames import Damaged, Sink, Source, StreamFrame
from allfocus.runtime.streams.ladder import Step, pass_through
from allfocus.runtime.streams.simple import Callback, Frames


class Collected(Sink):
    """Keeps what it is given; `closed` counts."""

    def __init__(self, pause: float = 0.0, fails_at: int | None = None) -> None:
        self.seen: list[tuple[int, int]] = []
        self.closed = 0
        self.pause, self.fails_at = pause, fails_at

    def write(self, frame: StreamFrame, result: Result) -> None:
        if frame.index == self.fails_at:
            raise OSError("disk full")
        time.sleep(self.pause)
        self.seen.append((frame.index, int(result.image.flat[0])))

    def close(self) -> None:
        self.closed += 1


class Watched(Frames):
    """Tells how far it was read, and that it was closed."""

    def __init__(self, pictures: Any, **options: Any) -> None:
        super().__init__(self._told(pictures), **options)
        self.given, self.was_closed = 0, False

    def _told(self, pictures: Any) -> Iterator[Any]:
        for picture in pictures:
            self.given += 1
            yield picture

    def close(self) -> None:
        super().close()
        self.was_closed = True


def pictures(count: int) -> list[Any]:
    return [np.full((2, 3 + n % 2, 3), n % 256, np.uint8) for n in range(count)]  # sizes change


def brighter(image: Any, pause: float = 0.0) -> Result:
    time.sleep(pause)
    return Result(image + 1, None, {}, skipped=0.5)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread.name


def test_every_frame_of_a_file_comes_out_once_and_in_order() -> None:
    source, sink = Watched(pictures(100)), Collected()
    report = Pipeline(source, brighter, sink, length=2).run()
    assert sink.seen == [(n, n + 1) for n in range(100)]
    assert (report.frames, report.dropped, report.damaged) == (100, 0, 0)
    assert report.skipped == 0.5
    assert report.p50_ms <= report.p99_ms <= report.max_ms
    assert sink.closed == 1
    assert source.was_closed


def test_a_slow_sink_slows_a_file() -> None:
    source, sink = Watched(pictures(30)), Collected(pause=0.005)
    ahead: list[int] = []

    def look(image: Any) -> Result:
        ahead.append(source.given - len(sink.seen))
        return brighter(image)

    Pipeline(source, look, sink, length=2).run()
    assert len(sink.seen) == 30
    assert max(ahead) <= 2 + 1 + 1 + 2 + 1  # both lines, and one in each pair of hands


def test_the_three_parts_work_at_once() -> None:
    """Three times 10 ms a frame take little more than 10 ms."""

    def slowly() -> Iterator[Any]:
        for picture in pictures(40):
            time.sleep(0.01)
            yield picture

    start = time.perf_counter()
    Pipeline(Frames(slowly()), lambda image: brighter(image, 0.01), Collected(pause=0.01)).run()
    assert time.perf_counter() - start < 2 * 40 * 0.01


@pytest.mark.parametrize(("policy", "newest"), [(None, True), ("drop-newest", False)])
def test_a_live_source_drops_instead_of_waiting(policy: Any, newest: bool) -> None:
    go = threading.Event()

    def wait(image: Any) -> Result:
        go.wait(5)
        return brighter(image)

    def camera() -> Iterator[Any]:
        yield from pictures(50)
        go.set()

    sink = Collected()
    pipeline = Pipeline(Frames(camera(), live=True), wait, sink, length=3, when_full=policy)
    report = pipeline.run()
    numbers = [index for index, _ in sink.seen]
    assert numbers == sorted(numbers)
    assert report.dropped + report.frames == 50
    assert report.frames <= 4 + 1
    assert (numbers[-1] == 49) == newest


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ({"deadline_ms": 60_000}, [49]),
        ({}, [46, 47, 48, 49]),
        ({"deadline_ms": 60_000, "when_full": "drop-oldest"}, [49]),
        ({"deadline_ms": 60_000, "length": 3}, [47, 48, 49]),
        ({"deadline_ms": 60_000, "when_full": "drop-newest"}, [1]),
        ({"deadline_ms": 60_000, "when_full": "drop-newest", "length": 3}, [1, 2, 3]),
    ],
)
def test_with_a_deadline_a_live_source_gives_its_newest_frame(
    options: dict[str, Any], after: list[int]
) -> None:
    """What waits in a line grows old; its length and the policy are as they are asked for."""
    begun, go = threading.Event(), threading.Event()

    def wait(image: Any) -> Result:
        begun.set()
        go.wait(5)
        return brighter(image)

    def camera() -> Iterator[Any]:
        for picture in pictures(50):
            yield picture
            begun.wait(5)
        go.set()

    sink = Collected()
    report = Pipeline(Frames(camera(), live=True), wait, sink, **options).run()
    assert [index for index, _ in sink.seen] == [0, *after]
    assert report.dropped == 49 - len(after)


def test_with_a_deadline_every_frame_of_a_file_passes() -> None:
    sink = Collected()
    report = Pipeline(Frames(pictures(20)), brighter, sink, deadline_ms=60_000).run()
    assert (report.frames, report.dropped, report.missed) == (20, 0, 0)


def test_a_slow_sink_makes_frames_late() -> None:
    """They are done in time, and wait for the sink beyond their deadline."""
    report = Pipeline(Frames(pictures(4)), brighter, Collected(pause=0.4), deadline_ms=200).run()
    assert report.missed >= 3


def test_lower_steps_are_made_ready_on_the_first_frame() -> None:
    """Twice each: they would be slow at first, when there is no time, and their cost is known."""
    ran: list[tuple[str, int]] = []

    def told(name: str) -> Any:
        def run(image: Any) -> Result:
            ran.append((name, int(image.flat[0])))
            return brighter(image)

        return run

    ladder = [Step(name, told(name)) for name in ("lite", "coarse")]
    sink = Collected()
    source = Frames(pictures(3))
    Pipeline(source, told("best"), sink, deadline_ms=60_000, ladder=ladder).run()
    first = [("best", 0), *2 * [("lite", 0)], *2 * [("coarse", 0)]]
    assert ran == [*first, ("best", 1), ("best", 2)]
    assert sink.seen == [(0, 1), (1, 2), (2, 3)]


def test_a_lower_step_that_fails_is_told_and_the_first_frame_passes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: Any) -> Result:
        raise InputError("too large for it")

    sink = Collected()
    ladder = [Step("lite", broken), Step("as it is", pass_through)]
    source = Frames(pictures(3))
    report = Pipeline(source, brighter, sink, deadline_ms=60_000, ladder=ladder).run()
    assert "step 'lite' of the ladder fails: too large for it" in caplog.text
    assert (report.frames, report.damaged) == (3, 0)


def test_stopping_leaves_the_rest_of_the_ladder_unprepared() -> None:
    ran: list[str] = []

    def stop(image: Any) -> Result:
        ran.append("lite")
        pipeline.stop()
        return pass_through(image)

    sink = Collected()
    ladder = [Step("lite", stop), Step("last", lambda _: 1 // 0)]  # type: ignore[arg-type,return-value]
    source = Frames(iter(pictures(10_000)))
    pipeline = Pipeline(source, brighter, sink, deadline_ms=60_000, ladder=ladder)
    pipeline.run()
    assert ran == ["lite"]
    assert sink.seen == [(0, 1)]


def test_a_slow_first_frame_does_not_pin_the_ladder_down() -> None:
    """As where an engine is opened in it: 0.5 s, then 5 ms, with 100 ms for each."""
    cold = iter([0.5])

    def best(image: Any) -> Result:
        return brighter(image, next(cold, 0.005))

    def camera() -> Iterator[Any]:
        for picture in pictures(60):
            time.sleep(0.02)
            yield picture

    seen: list[float] = []
    report = Pipeline(
        Frames(camera(), live=True),
        best,
        Callback(lambda frame, result: seen.append(result.skipped)),  # noqa: ARG005
        deadline_ms=100,
        ladder=[Step("as it is", pass_through)],
    ).run()
    assert report.missed >= 1
    assert seen.count(0.5) > 20  # by the best: it says so
    assert seen.count(1.0) < 10


def test_damaged_frames_and_frames_that_cannot_be_done_are_counted() -> None:
    class Bad(Source):
        def frames(self) -> Iterator[StreamFrame | Damaged]:
            for index, picture in enumerate(pictures(6)):
                yield (
                    StreamFrame(picture, index, 0.0)
                    if index != 2
                    else Damaged(index, InputError("cut short"))
                )

        def close(self) -> None:
            pass

    def picky(image: Any) -> Result:
        if image[0, 0, 0] == 4:
            raise InputError("no frame at all")
        return brighter(image)

    sink = Collected()
    report = Pipeline(Bad(), picky, sink).run()
    assert [index for index, _ in sink.seen] == [0, 1, 3, 5]
    assert (report.frames, report.damaged) == (4, 2)
    sink = Collected()
    with pytest.raises(InputError, match="cut short"):
        Pipeline(Bad(), picky, sink, on_error="stop").run()
    assert [index for index, _ in sink.seen] == [0, 1]
    assert sink.closed == 1


def test_what_breaks_in_the_source_comes_out_after_what_was_read() -> None:
    def breaking() -> Iterator[Any]:
        yield from pictures(3)
        raise OSError("the cable")

    sink = Collected()
    with pytest.raises(OSError, match="the cable"):
        Pipeline(Frames(breaking()), brighter, sink).run()
    assert len(sink.seen) == 3
    assert sink.closed == 1


def test_what_breaks_in_the_sink_ends_the_run() -> None:
    source, sink = Watched(iter(pictures(10_000))), Collected(fails_at=3)
    with pytest.raises(OSError, match="disk full"):
        Pipeline(source, brighter, sink, length=2).run()
    assert len(sink.seen) == 3
    assert source.given < 20
    assert sink.closed == 1
    assert source.was_closed


def test_an_error_of_ours_is_not_hidden() -> None:
    sink = Collected()
    with pytest.raises(ZeroDivisionError):
        Pipeline(Frames(pictures(5)), lambda _: 1 // 0, sink).run()  # type: ignore[arg-type,return-value]
    assert sink.closed == 1


def test_it_stops_after_the_frame_in_hand() -> None:
    sink = Collected()
    source = Watched(iter(pictures(10_000)))

    def third(image: Any) -> Result:
        if image[0, 0, 0] == 2:
            pipeline.stop()
        return brighter(image)

    pipeline = Pipeline(source, third, sink, length=2)
    report = pipeline.run()
    assert sink.seen == [(0, 1), (1, 2), (2, 3)]
    assert report.frames == 3
    assert sink.closed == 1


def test_ctrl_c_closes_everything() -> None:
    def interrupted(image: Any) -> Result:
        if image[0, 0, 0] == 2:
            raise KeyboardInterrupt
        return brighter(image)

    source, sink = Watched(iter(pictures(10_000))), Collected()
    with pytest.raises(KeyboardInterrupt):
        Pipeline(source, interrupted, sink).run()
    assert sink.seen == [(0, 1), (1, 2)]
    assert sink.closed == 1
    assert source.was_closed


def test_a_sink_that_cannot_be_closed_is_told() -> None:
    class Stuck(Collected):
        def close(self) -> None:
            raise OSError("cannot finish the file")

    with pytest.raises(OSError, match="cannot finish the file"):
        Pipeline(Frames(pictures(2)), brighter, Stuck()).run()


def test_a_deadline_steps_down_and_counts_what_is_late() -> None:
    def steady() -> Iterator[Any]:
        for picture in pictures(50):
            time.sleep(0.01)
            yield picture

    seen: list[float] = []
    sink = Callback(lambda frame, result: seen.append(result.skipped))  # noqa: ARG005
    pipeline = Pipeline(
        Frames(steady(), live=True),
        lambda image: brighter(image, 0.05),
        sink,
        deadline_ms=30,
        ladder=[Step("as it is", pass_through)],
    )
    report = pipeline.run()
    assert report.missed >= 1  # the first ones were late: nobody knew
    assert seen.count(1.0) > 15
    assert report.step == 1
    assert report.step_name == "as it is"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"deadline_ms": 0}, "deadline_ms: expected milliseconds above 0, got 0"),
        ({"deadline_ms": -5.0}, "deadline_ms: expected milliseconds above 0"),
        ({"deadline_ms": float("inf")}, "deadline_ms: expected milliseconds above 0"),
        ({"deadline_ms": float("nan")}, "deadline_ms: expected milliseconds above 0"),
        ({"deadline_ms": 10**400}, "deadline_ms: expected milliseconds above 0"),
        ({"deadline_ms": "50"}, "deadline_ms: expected milliseconds above 0, got '50'"),
        ({"deadline_ms": True}, "deadline_ms: expected milliseconds above 0, got True"),
        ({"deadline_ms": False}, "deadline_ms: expected milliseconds above 0, got False"),
        ({"deadline_ms": [50]}, "deadline_ms: expected milliseconds above 0"),
        ({"deadline_ms": 50, "ladder": [pass_through]}, "ladder: expected steps"),
        ({"ladder": [Step("x", pass_through)]}, "give deadline_ms"),
        ({"length": 0}, "length: expected a whole number of at least 1, got 0"),
        ({"length": -3}, "length: expected a whole number of at least 1"),
        ({"length": "4"}, "length: expected a whole number of at least 1, got '4'"),
        ({"length": 1.5}, "length: expected a whole number of at least 1, got 1.5"),
        ({"length": True}, "length: expected a whole number of at least 1, got True"),
        ({"length": False}, "length: expected a whole number of at least 1, got False"),
        ({"when_full": "explode"}, "expected one of wait"),
        ({"on_error": "hope"}, "expected stop or skip"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Pipeline(Frames([]), brighter, Collected(), **options)


def test_pictures_and_functions_as_they_are_are_told_what_to_be_put_in() -> None:
    bare: Any = pictures(2)
    with pytest.raises(UsageError, match=r"got list; .* go in as simple\.Frames\(pictures\)"):
        Pipeline(bare, brighter, Collected())
    bare = print
    with pytest.raises(UsageError, match=r"goes in as simple\.Callback\(function\)"):
        Pipeline(Frames([]), brighter, bare)


@pytest.mark.parametrize("number", [4, np.int64(4), np.uint8(4)])
def test_whole_numbers_of_any_kind_are_lengths(number: Any) -> None:
    sink = Collected()
    pipeline = Pipeline(
        Frames(pictures(3)), brighter, sink, length=number, deadline_ms=np.float32(60_000)
    )
    assert pipeline.run().frames == 3


def test_frames_tell_how_many_they_are() -> None:
    assert Frames(pictures(3)).total == 3
    assert Frames(iter(pictures(3))).total is None
    source = Frames(pictures(3))
    taken = source.frames()
    next(taken)
    source.close()
    assert list(taken) == []
