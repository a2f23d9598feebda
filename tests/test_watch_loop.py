"""The loop of `allfocus watch`, with a clock of its own: when it looks, waits and tries again."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from watched import KEPT, enter, shown

from allfocus.runtime import arrivals as arriving
from allfocus.runtime import watch as watching
from allfocus.runtime.arrivals import look
from allfocus.runtime.errors import AllfocusError, BackendError, InputError, LimitError
from allfocus.runtime.jobs import Job, Naming
from allfocus.runtime.ledger import Identity, Ledger
from allfocus.runtime.watch import Plan, Watch
from allfocus.runtime.work import Done, Failure


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


class World:
    """A Watch in a time that passes only while it sleeps; `at` lets something happen in it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.works: list[tuple[float, str]] = []  # when, and what was read
        self.outcomes: list[tuple[float, Done | Failure]] = []
        self.said: list[tuple[float, str]] = []
        self.looks: list[float] = []
        self.error: AllfocusError | None = None
        self.during: Callable[[Job], None] = lambda _: None
        self._events: list[tuple[float, Callable[[], Any]]] = []
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self._sleep)
        monkeypatch.setattr(watching, "time", clock)
        monkeypatch.setattr(arriving, "time", clock)
        monkeypatch.setattr(arriving, "look", self._look)

    def at(self, seconds: float, event: Callable[[], Any]) -> None:
        self._events.append((1000.0 + seconds, event))
        self._events.sort(key=lambda each: each[0])

    def run(self, seconds: float, **changes: Any) -> Watch:
        plan: dict[str, Any] = {"folder": Path("in"), "out": Path("out"), "naming": Naming()}
        plan |= {"recursive": False, "overwrite": False, "every": 1.0, "settle": 1.0, "once": False}
        watch = Watch(
            Plan(**(plan | changes)),
            Ledger(Path("out"), Path("in")),
            work=self._work,
            tell=lambda outcome: self.outcomes.append((self.now - 1000, outcome)),
            say=lambda message: self.said.append((self.now - 1000, message)),
            stopping=lambda: self.now >= 1000 + seconds,
        )
        watch.run()
        return watch

    def _sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)
        while self._events and self._events[0][0] <= self.now:
            self._events.pop(0)[1]()

    def _look(self, *args: Any, **options: Any) -> dict[str, Identity]:
        self.looks.append(self.now - 1000)
        return look(*args, **options)

    def _work(self, job: Job) -> Done:
        text = job.source.read_text()
        self.works.append((self.now - 1000, text))
        self.during(job)
        if self.error is not None:
            raise self.error
        job.target.parent.mkdir(parents=True, exist_ok=True)
        job.target.write_text(text.upper())
        return Done(job=job, width=1, height=1, timings={}, skipped=0.0, notes=())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def write(name: str, text: str) -> Callable[[], int]:
    return lambda: Path("in", name).write_text(text)


def append(name: str, text: str) -> Callable[[], None]:
    def event() -> None:
        with Path("in", name).open("a") as file:
            file.write(text)

    return event


def test_a_picture_that_comes_in_pieces_is_taken_whole(world: World) -> None:
    for count in range(20):
        world.at(0.5 + 0.4 * count, append("a.png", "x"))
    world.run(20)
    ((when, text),) = world.works
    assert text == "x" * 20
    assert 8.1 + 1 <= when <= 8.1 + 2.3
    assert Path("out/a.png").read_text() == "X" * 20


def test_one_that_stalls_is_taken_again(world: World) -> None:
    world.at(0.5, append("a.png", "x"))
    world.at(5.5, append("a.png", "x"))
    world.run(10)
    assert [text for _, text in world.works] == ["x", "xx"]
    assert Path("out/a.png").read_text() == "XX"


def test_one_that_is_replaced_or_gone(world: World) -> None:
    world.at(0, write("a.png", "one"))
    world.at(0, write("b.png", "short-lived"))
    world.at(0.5, Path("in/b.png").unlink)
    world.at(9, write("a.png", "two!"))
    world.run(20)
    assert [text for _, text in world.works] == ["one", "two!"]
    assert world.said == []
    assert Path("out/a.png").read_text() == "TWO!"


def test_one_that_is_removed_before_its_turn(world: World) -> None:
    for name in ("a.png", "b.png"):
        write(name, name)()
    world.during = lambda _: Path("in/b.png").unlink(missing_ok=True)
    world.run(5)
    assert [text for _, text in world.works] == ["a.png"]
    assert len(world.outcomes) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_one_that_is_replaced_while_it_is_worked_on(world: World, fails: bool) -> None:
    def replace(_: Job) -> None:
        world.during = lambda _: None
        world.at(world.now - 1000 + 5, lambda: setattr(world, "error", None))
        write("a.png", "the second")()

    write("a.png", "first")()
    world.during = replace
    world.error = InputError("cut short") if fails else None
    world.run(20)
    texts = [text for _, text in world.works]
    assert texts == ["first", "the second"]
    assert len(world.outcomes) == 1
    assert len(Path("out", KEPT).read_text().splitlines()) == 2


def test_a_folder_that_goes_away_and_comes_back(world: World) -> None:
    write("a.png", "a")()
    world.at(10.2, lambda: Path("in").rename("away"))
    world.at(150, lambda: Path("away/b.png").write_text("b"))
    world.at(151, lambda: Path("away").rename("in"))
    world.run(200)
    assert [text for _, text in world.works] == ["a", "b"]
    assert [text for _, text in world.said] == [
        "in cannot be read (No such file or directory); waiting until it can",
        "in is there again",
    ]
    gone = [when for when in world.looks if 10.2 < when < world.said[1][0]]
    pauses = np.diff(gone)
    assert np.allclose(pauses[:6], [1, 2, 4, 8, 16, 30], atol=0.3)
    assert pauses.max() < 30.3


def test_a_folder_below_that_cannot_be_read_does_not_stop_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: str) -> Any:
        if str(path).endswith("/locked/"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    Path("in/locked").mkdir()
    write("a.png", "a")()
    world.run(20, recursive=True)
    assert [text for _, text in world.works] == ["a"]
    assert [text for _, text in world.said] == [
        "in/locked cannot be read (Permission denied); passing over it"
    ]


def test_a_file_in_the_way_is_told_once_and_waited_for(world: World) -> None:
    write("a.png", "a")()
    Path("out").mkdir()
    Path("out/a.png").write_text("mine")
    world.at(50, Path("out/a.png").unlink)
    world.run(100)
    (_, first), (when, second) = world.outcomes
    assert isinstance(first, Failure)
    assert isinstance(second, Done)
    assert 50 < when < 50 + 30 + 3
    assert Path("out/a.png").read_text() == "A"


def test_an_engine_that_fails_once_is_tried_again(world: World) -> None:
    write("a.png", "a")()
    world.error = BackendError("out of memory")
    world.at(20, lambda: setattr(world, "error", None))
    world.run(60)
    assert [type(outcome) for _, outcome in world.outcomes] == [Failure, Done]
    assert len(world.works) == 2


def test_an_engine_that_fails_on_all_stops_it(world: World) -> None:
    for name in "abcd":
        write(f"{name}.png", name)()
    world.error = BackendError("lost the GPU")
    with pytest.raises(BackendError, match="lost the GPU"):
        world.run(60)
    assert len(world.works) == 3
    world.error = None
    world.run(120)
    assert shown() == ["a.png", "b.png", "c.png", "d.png"]


def test_what_cannot_be_read_for_now_is_not_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that fails in the middle of a picture says nothing about the picture."""
    monkeypatch.setattr(watching, "can_be_read", lambda _: False)
    write("a.png", "a")()
    world.error = InputError("in/a.png: cannot be read: Input/output error")
    world.at(20, lambda: setattr(world, "error", None))
    world.run(60)
    assert [type(outcome) for _, outcome in world.outcomes] == [Failure, Done]


def test_what_a_limit_refuses_is_left_alone_until_it_is_replaced_or_the_next_start(
    world: World,
) -> None:
    for name in "ab":
        write(f"{name}.png", name)()
    world.error = LimitError("larger than is allowed")
    world.at(200, lambda: setattr(world, "error", None))
    world.at(200, write("b.png", "smaller"))
    watch = world.run(400)
    assert [text for _, text in world.works] == ["a", "b", "smaller"]
    assert watch.failures == 2
    assert shown() == ["b.png"]
    world.run(800)
    assert [text for _, text in world.works] == ["a", "b", "smaller", "a"]
    assert shown() == ["a.png", "b.png"]


@pytest.mark.parametrize("settle", [0.0, 1.0, 50.0])
def test_once_ends_by_itself(world: World, settle: float) -> None:
    write("a.png", "a")()
    write("b.png", "b")()
    Path("out").mkdir()
    Path("out/b.png").write_text("in the way")
    watch = world.run(500, once=True, settle=settle)
    assert [text for _, text in world.works] == ["a"]
    assert watch.failures == 1
    assert world.now - 1000 < settle + 3


@pytest.mark.parametrize("back", [5.0, 1e9])
def test_once_does_what_it_found_where_the_folder_goes_away(
    world: World, monkeypatch: pytest.MonkeyPatch, back: float
) -> None:
    """It does not wait for more; where there may be none, it has to say so."""

    def flicker(*args: Any, **options: Any) -> dict[str, Identity]:
        if 1003 < world.now < 1000 + back:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return look(*args, **options)

    def linger(_: Job) -> None:
        world.now += 1.5

    monkeypatch.setattr(arriving, "look", flicker)
    world.during = linger
    for name in "abc":
        write(f"{name}.png", name)()
    if back > 1000:
        with pytest.raises(
            AllfocusError, match=r"in cannot be read \(Input/output error\), so tha"
        ):
            world.run(500, once=True)
    else:
        world.run(500, once=True)
    assert [text for _, text in world.works] == ["a", "b", "c"]
    assert world.said == []
    assert world.now < 1010


def test_a_large_folder_is_looked_at_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: Any, **__: Any) -> dict[str, Identity]:
        world.looks.append(world.now)
        world.now += 2.0
        return {}

    monkeypatch.setattr(arriving, "look", slow)
    world.run(220)
    assert len(world.looks) == 10
