from __future__ import annotations

from threading import Barrier, Event

import pytest
from at_once import PATIENCE, joined, started

from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.lanes import Lanes


def test_as_many_calls_run_at_once_as_there_are_lanes() -> None:
    lanes, together, taken = Lanes("abc", "x"), Barrier(3), []

    def call() -> None:
        with lanes.one() as lane:
            taken.append(lane)
            together.wait(PATIENCE)  # passed by three at once

    for thread in [started(call) for _ in range(3)]:
        joined(thread)
    assert sorted(taken) == ["a", "b", "c"]


def test_one_more_waits_for_the_lane_that_is_given_back() -> None:
    lanes, got = Lanes("a", "x"), []

    def call() -> None:
        with lanes.one() as lane:
            got.append(lane)

    with lanes.one():
        waiting = started(call)
        waiting.join(0.05)
        assert got == []
    joined(waiting)
    assert got == ["a"]


def test_the_lane_used_last_comes_first() -> None:
    lanes = Lanes("abc", "x")
    with lanes.one() as first:
        pass
    with lanes.one() as again, lanes.one() as other:
        assert again == first != other
    assert (first, other) == ("c", "b")


def test_a_failed_call_gives_its_lane_back() -> None:
    lanes = Lanes("a", "x")
    with pytest.raises(ValueError, match="wrong"), lanes.one():
        raise ValueError("wrong")
    with lanes.one() as lane:
        assert lane == "a"


def test_closing_waits_for_calls_at_work_and_refuses_those_that_wait() -> None:
    lanes, refused, waits = Lanes("ab", "net.onnx"), [], Event()

    def call() -> None:
        waits.set()
        with pytest.raises(ArtefactError) as error, lanes.one():
            raise AssertionError("was let in")
        refused.append(str(error.value))

    with lanes.one(), lanes.one():
        late = started(call)
        assert waits.wait(PATIENCE)
        closing = started(lanes.close)
        joined(late)  # at once, not when a lane is free
        closing.join(0.05)
        assert closing.is_alive()
    joined(closing)
    assert refused == ["net.onnx: closed; load it again"]
    lanes.close()
    call()
