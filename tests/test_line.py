"""A waiting line between two threads: order, bounds, and what is dropped."""

from __future__ import annotations

import sys
from collections import deque
from threading import Thread

import pytest
from at_once import joined, struck
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.errors import UsageError
from allfocus.runtime.streams.line import Line


def test_a_line_that_is_emptied_at_the_last_moment_gives_nothing() -> None:
    """As by a signal's handler, which comes between any two steps of the thread that waits."""
    line = Line[int](2)

    class Emptied(deque[int]):
        def __bool__(self) -> bool:
            line.close(empty=True)
            return True

    line._items = Emptied([1])
    assert line.get() is None


@given(st.lists(st.sampled_from(["put", "get"]), max_size=60), st.integers(1, 5))
def test_it_is_first_in_first_out_and_bounded(moves: list[str], length: int) -> None:
    """Against a list, with each way to drop."""
    oldest, newest = Line[int](length, "drop-oldest"), Line[int](length, "drop-newest")
    kept_oldest: list[int] = []
    kept_newest: list[int] = []
    for number, move in enumerate(moves):
        if move == "put":
            assert oldest.put(number)
            assert newest.put(number)
            kept_oldest = [*kept_oldest, number][-length:]
            kept_newest = [*kept_newest, number][:length]
        elif kept_oldest:
            assert oldest.get() == kept_oldest.pop(0)
            assert newest.get() == kept_newest.pop(0)
        assert len(oldest) == len(newest) == len(kept_oldest)
    puts = moves.count("put")
    for line, kept in ((oldest, kept_oldest), (newest, kept_newest)):
        line.close()
        rest = []
        while (item := line.get()) is not None:
            rest.append(item)
        assert rest == kept
        assert line.dropped <= puts
        assert not line.put(0)


def test_a_full_line_waits_and_a_closed_one_lets_go() -> None:
    line = Line[int](1)
    taken: list[bool] = []
    writer = Thread(target=lambda: taken.extend(line.put(n) for n in range(3)))
    writer.start()
    assert [line.get(), line.get()] == [0, 1]
    writer.join(5)
    blocked = Thread(target=lambda: taken.append(line.put(9)))
    blocked.start()
    line.close()
    blocked.join(5)
    assert not blocked.is_alive()
    assert taken == [True, True, True, False]
    assert [line.get(), line.get()] == [2, None]


def test_emptied_is_dropped() -> None:
    line = Line[int](3)
    line.put(1)
    line.put(2)
    line.close(empty=True)
    assert line.get() is None
    assert line.dropped == 2


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Line[int](0)
    with pytest.raises(UsageError, match="expected one of wait, drop-oldest, drop-newest"):
        Line[int](1, "drop")  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
@pytest.mark.timeout(60)
def test_a_ctrl_c_that_another_thread_takes_ends_the_wait() -> None:
    """It does not wake the main thread, which would wait for ever."""
    line: Line[int] = Line(1)
    thread = struck()
    with pytest.raises(KeyboardInterrupt):
        line.get()
    joined(thread)
