"""`allfocus watch` with a net that inverts: nothing lost, nothing twice, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from allfocus.runtime import ledger as ledgers
from allfocus.runtime import watch as watching
from allfocus.runtime import watch_command
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.command import script
from allfocus.runtime.deblur_command import Done, Failure
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import AllfocusError, BackendError, InputError
from allfocus.runtime.jobs import Job, Naming
from allfocus.runtime.ledger import FOLDER, Identity, Ledger
from allfocus.runtime.lock import locked
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Graph, Spec
from allfocus.runtime.watch import Arrivals, Plan, Watch, look

KEPT = f"{FOLDER}/ledger.jsonl"  # all that a watch leaves beside the outputs


class Inverted(Backend):
    """Gives 255 less what it gets, and a flat map."""

    name = "inverted"

    def _load(self) -> tuple[Spec, Graph]:
        spec = Spec(
            name="inverted",
            version=1,
            multiple=4,
            halo=0,
            global_context=False,
            color="rgb",
            max_radius=10.0,
            parameters=0,
            macs_per_pixel=0.0,
            weights="none",
            weights_sha256="",
            license="",
            paper="",
        )
        signature = Signature(("image",), ("sharp", "defocus"))
        return spec, Graph(
            io="frame", precision="fp32", color="rgb", shapes=None, signature=signature
        )

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        image = inputs["image"]
        return {"sharp": 255 - image, "defocus": np.ones(image.shape[:3], np.float32) / 2}

    def _close(self) -> None:
        pass


def load_inverted(model: str, **_: Any) -> Deblurrer:
    return Deblurrer(Inverted(Path(model), Options()))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place with a folder `in` that is watched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch_command, "load", load_inverted)
    Path("in").mkdir()
    return tmp_path


def run(*words: str) -> int:
    return script("allfocus watch", "", watch_command.add_arguments, watch_command.run, words)


def once(*words: str) -> int:
    return run("in", "-o", "out", "--once", "--settle", "0", *words)


def save(path: Path | str, value: int = 100) -> Path:
    """A grey picture of one value, renamed into its place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    Image.new("L", (9, 6), value % 256).save(draft)
    return draft.rename(path)


def shown(out: Path | str = "out") -> list[str]:
    """All files that anybody sees below `out`."""
    files = (p.relative_to(out) for p in Path(out).rglob("*") if p.is_file())
    return sorted(p.as_posix() for p in files if FOLDER not in p.parts)


def value_of(path: Path | str) -> int:
    with Image.open(path) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (6, 9)
    (value,) = np.unique(pixels)
    return int(value)


# The command


def test_what_is_there_is_done_once(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    save("in/b.PNG", 20)
    assert once() == 0
    assert shown() == ["a.png", "b.PNG"]
    assert (value_of("out/a.png"), value_of("out/b.PNG")) == (245, 235)
    said = capsys.readouterr()
    assert said.out.startswith(f"{Path('in/a.png')} -> {Path('out/a.png')}  9x6")
    assert said.err == ""
    assert once() == 0
    assert capsys.readouterr().out == ""
    files = [p.relative_to("out").as_posix() for p in Path("out").rglob("*") if p.is_file()]
    assert sorted(files) == [KEPT, "a.png", "b.PNG"]


def test_what_the_next_stage_took_away_is_not_done_again() -> None:
    save("in/a.png")
    assert once() == 0
    Path("out/a.png").unlink()
    assert once() == 0
    assert shown() == []


def test_a_picture_that_was_replaced_is_done_again() -> None:
    save("in/a.png", 10)
    assert once() == 0
    save("in/a.png", 20)
    assert once() == 0
    assert value_of("out/a.png") == 235


def test_places_names_and_maps() -> None:
    save("in/a.png")
    save("in/sub/deep/a.png")
    assert once("--recursive", "--suffix=-sharp", "--map", "--map-view") == 0
    names = ("a-sharp-defocus-view.png", "a-sharp-defocus.png", "a-sharp.png")
    assert shown() == [*names, *(f"sub/deep/{name}" for name in names)]
    with Image.open("out/a-sharp-defocus.png") as image:
        assert np.array_equal(np.unique(np.asarray(image)), [5 * 256])


def test_what_is_not_taken_for_a_picture() -> None:
    for name in (".a.png", ".hidden/b.png", "c.png.part", "d.tmp", "e.txt", "f.png/g.txt"):
        path = Path("in", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no")
    Path("in/dangling.png").symlink_to("nowhere.png")
    save("in/sub/x.png")
    assert once() == 0
    assert shown() == []


def test_a_corrupt_picture_fails_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/a.png").write_bytes(b"no picture")
    save("in/b.png")
    assert once() == 1
    assert "in/a.png: not a picture" in capsys.readouterr().err
    assert shown() == ["b.png"]
    assert once() == 0
    assert capsys.readouterr().err == ""
    save("in/a.png")
    assert once() == 0
    assert shown() == ["a.png", "b.png"]


def test_json_has_a_line_for_each_picture(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png")
    Path("in/b.png").write_bytes(b"")
    assert once("--json") == 1
    done, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert (done["input"], done["output"]) == (str(Path("in/a.png")), str(Path("out/a.png")))
    assert (failed["input"], failed["kind"]) == (str(Path("in/b.png")), "InputError")


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are any bytes")
def test_a_name_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png").rename(os.fsdecode(b"in/\xff.png"))
    assert once() == 0
    assert r"in/\udcff.png -> out/\udcff.png" in capsys.readouterr().out
    assert once() == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("gone", "-o", "out"), "gone: nothing there, where a folder to watch was expected"),
        (("in/a.png", "-o", "out"), "in/a.png: a file, where"),
        (("in", "-o", "in/a.png"), "in/a.png: a file, where"),
        (("in", "-o", "in"), "is the watched folder itself"),
        (("in", "-o", "in/../in/", "--recursive"), "is the watched folder itself"),
        (("in", "-o", ".", "--recursive"), "is a folder above in"),
        (("in", "-o", "out", "--suffix", "a/b"), "expected a part of a name"),
    ],
)
def test_folders_that_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], words: Sequence[str], reason: str
) -> None:
    save("in/a.png")
    assert run(*words, "--once") == 2
    assert reason in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("words", [("--every", "-1"), ("--settle", "nan"), ("--every", "x")])
def test_times_that_are_none(words: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        once(*words)
    assert stopped.value.code == 2


def test_an_output_folder_within_the_watched_one() -> None:
    save("in/a.png")
    for _ in range(2):
        assert run("in", "-o", "in/sharp", "--once", "--settle", "0", "--recursive") == 0
        assert shown("in") == ["a.png", "sharp/a.png"]


def test_a_second_watch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png")
    path = Path("out", FOLDER, "lock")
    with locked(path, lambda: None):
        path.write_text("process 17 on camera, watching in\n")
        assert once() == 2
    told = capsys.readouterr().err
    assert "out is written by another `allfocus watch` (process 17 on camera, watching in)" in told
    assert once() == 0


def test_the_lock_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_at_lock(*_: Any, **__: Any) -> Deblurrer:
        text = Path("out", FOLDER, "lock").read_text()
        assert text.startswith(f"process {os.getpid()} on ")
        raise BackendError("seen")

    monkeypatch.setattr(watch_command, "load", look_at_lock)
    assert once() == 1


def test_the_outputs_of_another_folder_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    assert once() == 0
    save("other/a.png", 20)
    assert run("other", "-o", "out", "--once", "--settle", "0") == 2
    assert "choose another --out" in capsys.readouterr().err
    assert value_of("out/a.png") == 245


def test_a_file_that_stands_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    save("out/a.png", 77)
    assert once() == 1
    assert "out/a.png is there already, and not from this watch" in capsys.readouterr().err
    assert value_of("out/a.png") == 77
    assert once("--overwrite") == 0
    assert value_of("out/a.png") == 245


def test_two_pictures_for_one_output(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    save("in/a-defocus.png", 20)
    assert once("--map", "--overwrite") == 1
    assert "a-defocus.png was made from a-defocus.png; rename one" in capsys.readouterr().err
    assert value_of("out/a-defocus.png") == 235


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "sub/a.png"])
def test_an_output_that_cannot_have_its_name(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Told before anything is recorded: a start would not get past it otherwise."""
    save("in/b.png")
    draft = save("in/c.png")
    Path("in", name).parent.mkdir(exist_ok=True)
    draft.rename(Path("in", name))
    Path("out").mkdir()
    Path("out/sub").write_text("in the way")
    for _ in range(2):
        assert once("--suffix=-sharp", "--recursive") == 1
        assert "cannot write out" in capsys.readouterr().err
        assert shown() == ["b-sharp.png", "sub"]


def test_an_output_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png")
    Path("out").mkdir()
    Path("out", FOLDER).write_text("in the way")
    assert once() == 1
    assert "cannot write" in capsys.readouterr().err


def test_a_full_disk_stops_it_and_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/a.png")
    save("in/b.png")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert once() == 1
    told = capsys.readouterr()
    assert told.err.count("No space left on device; free some space") == 1
    assert (told.out, shown()) == ("", [])
    assert once() == 0
    assert shown() == ["a.png", "b.png"]


def test_what_cannot_be_encoded_is_told_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from allfocus.runtime.pictures import image

    def fail(*_: Any) -> Any:
        raise AllfocusError("OpenCV cannot write 9x6 as PNG")

    save("in/a.png")
    with monkeypatch.context() as patch:
        patch.setattr(image, "encode_image", fail)
        assert once() == 1
    assert "allfocus: out/a.png: OpenCV cannot write" in capsys.readouterr().err
    assert once() == 0
    assert shown() == []


def test_the_bar_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/a.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert once() == 0
    assert "1/1" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_picture_in_hand(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Signalled(Inverted):
        def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
            os.kill(os.getpid(), number)
            return super()._run(inputs)

    monkeypatch.setattr(
        watch_command, "load", lambda *_, **__: Deblurrer(Signalled(Path("x"), Options()))
    )
    former = signal.getsignal(number)
    save("in/a.png")
    save("in/b.png")
    assert run("in", "-o", "out", "--settle", "0") == 0
    assert shown() == ["a.png"]
    assert not Path("out", FOLDER, "lock").exists()
    assert signal.getsignal(number) == former


def test_a_second_ctrl_c_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Signalled(Inverted):
        def _run(self, _: dict[str, Any]) -> dict[str, Any]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("not reached")

    monkeypatch.setattr(
        watch_command, "load", lambda *_, **__: Deblurrer(Signalled(Path("x"), Options()))
    )
    save("in/a.png")
    assert run("in", "-o", "out", "--settle", "0") == 130
    assert "nothing half-written" in capsys.readouterr().err
    assert shown() == []


# The loop, with a clock of its own


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
        monkeypatch.setattr(watching, "look", self._look)

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
    monkeypatch.setattr(watching, "_can_be_read", lambda _: False)
    write("a.png", "a")()
    world.error = InputError("in/a.png: cannot be read: Input/output error")
    world.at(20, lambda: setattr(world, "error", None))
    world.run(60)
    assert [type(outcome) for _, outcome in world.outcomes] == [Failure, Done]


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


def test_a_large_folder_is_looked_at_less_often(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: Any, **__: Any) -> dict[str, Identity]:
        world.looks.append(world.now)
        world.now += 2.0
        return {}

    monkeypatch.setattr(watching, "look", slow)
    world.run(220)
    assert len(world.looks) == 10


NAMES, VERSIONS = ("a", "b", "c"), st.sampled_from([None, 1, 2])
LOOKS = st.lists(
    st.tuples(st.floats(0.1, 3), st.floats(0, 1), st.tuples(VERSIONS, VERSIONS, VERSIONS)),
    max_size=30,
)


@given(looks=LOOKS, settle=st.sampled_from([0.0, 1.0, 2.5]))
def test_a_picture_is_taken_once_for_each_time_that_it_settles(
    looks: list[tuple[float, float, tuple[int | None, ...]]], settle: float
) -> None:
    """Against the plain rule: seen alike in every look for `settle` seconds, and not yet done."""
    finished: dict[str, Identity] = {}
    arrivals, now = Arrivals(finished, settle), 0.0
    since: dict[str, tuple[int | None, float]] = dict.fromkeys(NAMES, (None, 0.0))
    for pause, took, versions in looks:
        began, ended = now + pause, now + pause + took
        now = ended
        there = {n: Identity(v, v) for n, v in zip(NAMES, versions, strict=True) if v}
        arrivals.see(there, began, ended)
        expected = []
        for name, version in zip(NAMES, versions, strict=True):
            was = finished.get(name)
            if since[name][0] != version:
                since[name] = (version, ended if settle else began)
            is_new = version is not None and was != Identity(version, version)
            if is_new and began - since[name][1] >= settle:
                expected.append(name)
        taken = []
        while (each := arrivals.next()) is not None:
            taken.append(each[0])
            finished[each[0]] = each[1]
        assert taken == expected
        assert arrivals.expected(now) == bool(len(arrivals))


# Kills. A process without threads forks the watches, which is quick; see `Pipeline`.

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
import test_watch
print(getattr(test_watch, sys.argv[2])(*map(int, sys.argv[3:])))
"""


def drive(function: str, *arguments: int) -> str:
    words = [str(Path(__file__).parent), function, *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@needs_fork
def test_killed_at_random_moments() -> None:
    assert "30 kills" in drive("kill_at_random", 30, 1)


@needs_fork
@pytest.mark.full
def test_killed_at_a_thousand_random_moments() -> None:
    assert "1000 kills" in drive("kill_at_random", 1000, 2)


@needs_fork
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.full)])
def test_killed_at_every_line(step: int) -> None:
    assert "lines" in drive("kill_at_lines", step)


class Pipeline:
    """`in`, `out`, and a next stage that takes outputs away; checks all that can be seen."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.source, self.out, self.rng = root / "in", root / "out", rng
        self.source.mkdir(parents=True)
        self.sources: dict[str, int] = {}
        self.seen: dict[str, tuple[int, int]] = {}  # inode and mtime of each output
        self.taken: set[str] = set()

    def arrive(self) -> None:
        name = f"{'sub/' if self.rng.random() < 0.3 else ''}{len(self.sources):05d}"
        self.sources[name] = self.rng.randrange(256)
        save(self.source / f"{name}.png", self.sources[name])

    def check(self) -> None:
        """Every output is whole and right, and the file that it was when it was first seen."""
        for name in shown(self.out):
            path = self.out / name
            status = path.stat()
            assert name not in self.taken, f"{name} was made again after it was taken away"
            mark = (status.st_ino, status.st_mtime_ns)
            if self.seen.setdefault(name, mark) != mark:
                raise AssertionError(f"{name} was written twice")
            stem = name.removesuffix(".png")
            if stem in self.sources:
                assert value_of(path) == 255 - self.sources[stem]
            else:
                assert value_of(path) == 5 * 256
        assert set(self.seen) - self.taken == set(shown(self.out)), "an output is gone"

    def take_away(self) -> None:
        for name in shown(self.out):
            if name not in self.taken and name in self.seen and self.rng.random() < 0.1:
                self.taken.add(name)
                (self.out / name).unlink()

    def finish(self) -> None:
        """A last run that nobody kills: now everything has been done, once."""
        pid = self.start("--once")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        self.check()
        expected = {f"{n}{end}.png" for n in self.sources for end in ("", "-defocus")}
        assert set(self.seen) == expected
        own = [p.relative_to(self.out).as_posix() for p in (self.out / FOLDER).rglob("*")]
        assert sorted(own) == [f"{FOLDER}/drafts", KEPT]
        lines = (self.out / KEPT).read_text().splitlines()[1:]
        assert sorted(json.loads(line)["picture"] for line in lines) == sorted(
            f"{name}.png" for name in self.sources
        )

    def start(self, *words: str, killer: Callable[..., Any] | None = None) -> int:
        """Fork a watch; its process."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.settrace(killer)
            common = ("--recursive", "--settle", "0", "--every", "0.002", "--map")
            os._exit(run(str(self.source), "-o", str(self.out), *common, *words))
        finally:  # whatever happens, this process is not to go on as its parent
            os._exit(99)


def end(pid: int) -> bool:
    """Kill a process; whether that was what ended it."""
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status), f"it ended by itself: {os.waitstatus_to_exitcode(status)}"
    return os.WTERMSIG(status) == signal.SIGKILL


def kill_at_random(kills: int, seed: int) -> str:
    """Kill a watch again and again, while pictures arrive and outputs are taken away."""
    vars(watch_command)["load"] = load_inverted
    rng = random.Random(seed)
    pipeline = Pipeline(Path.cwd() / "random", rng)
    for _ in range(kills):
        while len(pipeline.sources) < len(pipeline.seen) / 2 + 6:
            pipeline.arrive()
        pid = pipeline.start()
        time.sleep(rng.uniform(0, 0.03))
        if rng.random() < 0.5:
            pipeline.arrive()
            time.sleep(rng.uniform(0, 0.02))
        assert end(pid)
        pipeline.check()
        pipeline.take_away()
    pipeline.finish()
    return f"{kills} kills, {len(pipeline.sources)} pictures, {len(pipeline.taken)} taken away"


def kill_at_lines(step: int) -> str:
    """Kill a watch of one picture at each so many'th line of its code, and the next one somewhere.

    Lines are counted as they are executed: those of a loop each time.
    """
    vars(watch_command)["load"] = load_inverted
    rng, count, last = random.Random(1), 0, False
    while not last:
        pipeline = Pipeline(Path.cwd() / f"line-{count}", rng)
        pipeline.arrive()
        for lines in (count, rng.randrange(200)):
            pid = pipeline.start("--once", killer=killer(lines))
            ended = os.WIFEXITED(os.waitpid(pid, 0)[1])
            last = last or (ended and lines == count)
            pipeline.check()
        pipeline.finish()
        count += step
    assert count > 100
    return f"{count} lines"


def killer(lines: int) -> Callable[..., Any]:
    """A trace function that kills its process after so many lines of the watch and the ledger."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in (watching.__file__, ledgers.__file__):
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace
