"""`allfocus watch` killed anywhere: nothing lost, nothing twice, nothing half-written.

A process without threads forks the watches, which is quick; see `Pipeline`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from watched import KEPT, Inverted, enter, load_inverted, run, save, shown, value_of

from allfocus.runtime import arrivals, in_hand, ledger, model_options, watch
from allfocus.runtime.backend import Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.ledger import FOLDER

TRACED = (arrivals.__file__, in_hand.__file__, ledger.__file__, watch.__file__)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
import test_watch_kills
print(getattr(test_watch_kills, sys.argv[2])(*map(int, sys.argv[3:])))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


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


@needs_fork
def test_killed_by_one_of_the_pictures() -> None:
    """As the system does where one takes more memory than there is."""
    assert "3 kills" in drive("kill_by_picture")


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
    vars(model_options)["load"] = load_inverted
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
    vars(model_options)["load"] = load_inverted
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


class Heavy(Inverted):
    """Is killed by a picture of the value 0."""

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        if not inputs["image"].any():
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._run(inputs)


def kill_by_picture() -> str:
    """Start watches until none is killed any more: the others are done, and that one is told."""
    vars(model_options)["load"] = lambda *_, **__: Deblurrer(Heavy(Path("x"), Options()))
    pipeline, kills = Pipeline(Path.cwd() / "heavy", random.Random(1)), 0
    for value, name in enumerate("abc"):
        save(pipeline.source / f"{name}.png", value)
    while os.WIFSIGNALED(status := os.waitpid(pipeline.start("--once"), 0)[1]):
        kills += 1
        assert kills < 9
    assert os.waitstatus_to_exitcode(status) == 1
    assert shown(pipeline.out) == [f"{n}{end}.png" for n in "bc" for end in ("-defocus", "")]
    return f"{kills} kills"


def killer(lines: int) -> Callable[..., Any]:
    """A trace function that kills its process after so many lines of TRACED."""
    left = lines

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace
