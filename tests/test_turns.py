from __future__ import annotations

import sys
from itertools import count
from threading import Barrier, Event

import pytest
from at_once import PATIENCE, joined, started, struck

from allfocus.runtime.streams.turns import Turns


def test_what_is_taken_is_numbered() -> None:
    turns, source = Turns(), count(70)
    assert [turns.take(lambda: next(source)) for _ in range(3)] == [(0, 70), (1, 71), (2, 72)]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.timeout(60)
@pytest.mark.parametrize("wait", ["take", "turn"])
def test_a_ctrl_c_that_another_thread_takes_ends_the_wait(wait: str) -> None:
    """It does not wake the main thread, which would wait for ever."""
    turns, entered, let_go = Turns(), Event(), Event()

    def source() -> None:
        entered.set()
        let_go.wait(PATIENCE)

    other = started(lambda: turns.take(source))
    assert entered.wait(PATIENCE)
    thread = struck()
    with pytest.raises(KeyboardInterrupt):
        turns.take(lambda: 0) if wait == "take" else turns.turn(1).__enter__()
    let_go.set()
    joined(other)
    joined(thread)
    assert turns.take(lambda: 7) == (1, 7)


def test_turns_come_in_the_order_of_the_numbers() -> None:
    turns, together, done = Turns(), Barrier(5), []

    def work(number: int) -> None:
        together.wait(PATIENCE)
        with turns.turn(number) as came:
            done.append((number, came))

    for thread in [started(lambda n=n: work(n)) for n in (4, 2, 0, 3, 1)]:
        joined(thread)
    assert done == [(n, True) for n in range(5)]


def test_a_turn_that_fails_is_the_last() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="wrong"), turns.turn(0):
        raise ValueError("wrong")
    with turns.turn(1) as came:
        assert not came


def test_after_the_end_nobody_waits() -> None:
    turns, found = Turns(), []

    def work() -> None:
        with turns.turn(5) as came:
            found.append(came)

    waiting = started(work)
    waiting.join(0.05)
    assert waiting.is_alive()
    turns.end()
    joined(waiting)
    with turns.turn(6) as came:
        assert not came
    assert found == [False]
