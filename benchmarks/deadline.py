"""`allfocus bench deadline`: does a ladder keep a camera's deadline while everything takes twice as
long?

A real Pipeline in real time: pictures come at a camera's rate, whether or not somebody takes them,
and are deblurred by the model, by the model at half their size, or not at all. For a sixth of the
run every step does its work twice for each frame, which doubles its cost exactly. Deadline and rate
follow from what the best way takes on this machine, measured just before.

With `--sleep-ms` the steps sleep instead, which takes as long on a busy machine: what is judged
then is the pipeline and the ladder alone.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Event
from time import perf_counter, sleep
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.benchmarks import common
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.schema import Machine, Stats
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import UsageError
from allfocus.runtime.load import load
from allfocus.runtime.pipeline import Pipeline
from allfocus.runtime.spec import Size
from allfocus.runtime.streams.frames import Sink, Source, StreamFrame
from allfocus.runtime.streams.ladder import Step, pass_through

DEADLINE = "allfocus/deadline/1"
REACTION, LATE, BACK = 0.5, 0.01, 3.0  # seconds, share and seconds: what the project set itself
_LEAST = 3.0  # seconds of a run
_LONGEST = 1000.0  # milliseconds that a step may sleep
_RATES = (60, 50, 30, 25, 20, 15, 10, 5, 2, 1)  # frames a second that cameras give
_BUSY = 0.75  # share of the time that the best way may take
_ROOM = 1.6  # the deadline over what it takes: enough, but not for twice the cost
_QUIET = 0.95  # share done by the best step without a load, where nothing else runs
_STAYS = 1.0  # seconds of nothing but the best, after which it counts as back

Run = Callable[[Any], Result]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a step takes when nothing else runs."""

    name: str
    milliseconds: Stats


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What became of the frames. Shares are of those that came out, by when they had arrived."""

    best_before: float  # share done by the best step, before the load
    late_before: float
    reaction_s: float | None  # from when the load met the best step until a lower one; null: never
    late_after: float | None  # share from then on, until the end of the run
    late_under_load: float | None  # ... until the end of the load
    back_s: float | None  # from the load's end until the best step came to stay; null: it did not


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the command measured."""

    schema: str
    machine: Machine
    model: str  # "sleep" where the steps do nothing else
    size: str
    seconds: float
    load_from_s: float
    load_until_s: float
    load_factor: float
    fps: int
    deadline_ms: float
    steps: tuple[Cost, ...]
    frames: int  # that came out
    dropped: int
    missed: int  # late, as the Pipeline counts
    figures: Figures


@dataclass(frozen=True)
class Seen:
    """One frame that came out; times in seconds since the first was begun."""

    arrived: float
    begun: float
    at: int  # the step
    handed: float  # to the sink


@dataclass(frozen=True)
class Load:
    """When everything takes twice as long, in seconds since the first frame was begun."""

    begins: float
    ends: float


class Timed(Source):
    """Copies of one picture at a camera's rate."""

    live = True

    def __init__(self, picture: NDArray[Any], fps: float, seconds: float) -> None:
        self.picture, self.fps = picture, fps
        self.count = round(seconds * fps)
        self._closed = Event()

    def frames(self) -> Iterator[StreamFrame]:
        """See Source."""
        start = perf_counter()
        for index in range(self.count):
            if self._closed.wait(max(0.0, start + index / self.fps - perf_counter())):
                return
            yield StreamFrame(self.picture.copy(), index, perf_counter())

    def close(self) -> None:
        """End before the next picture."""
        self._closed.set()


class Watch(Sink):
    """Notes which step did each frame, and when; puts the load on the steps."""

    def __init__(self, load: Load, clock: Callable[[], float] = perf_counter) -> None:
        self._load, self._clock = load, clock
        self._start: float | None = None
        self._begun: dict[int, tuple[float, int]] = {}  # by the picture's identity
        self._seen: list[tuple[float, float, int, float]] = []

    def step(self, at: int, run: Run) -> Run:
        """A step that does its work twice under load."""

        def watched(image: Any) -> Result:
            now = self._clock()
            self._start = now if self._start is None else self._start
            self._begun.setdefault(id(image), (now, at))  # later ones make the ladder ready
            if self._load.begins <= now - self._start < self._load.ends:
                run(image)
            return run(image)

        return watched

    def write(self, frame: StreamFrame, result: Result) -> None:  # noqa: ARG002
        """See Sink."""
        begun, at = self._begun.pop(id(frame.image))
        self._seen.append((frame.arrived, begun, at, self._clock()))

    def close(self) -> None:
        """Nothing is held."""

    def seen(self) -> list[Seen]:
        """All that came out."""
        zero = self._start or 0.0
        return [Seen(a - zero, begun - zero, at, h - zero) for a, begun, at, h in self._seen]


def judge(seen: Sequence[Seen], load: Load, deadline: float) -> Figures:
    """The figures of a run."""
    before = [one for one in seen if one.arrived < load.begins]
    met = _met(seen, load)
    lower = (one.begun for one in seen if one.at > 0)
    down = None if met is None else next((begun for begun in lower if begun >= met), None)
    after = [] if down is None else [one for one in seen if one.arrived >= down]
    return Figures(
        best_before=_share(before, lambda one: one.at == 0) or 0.0,
        late_before=_late(before, deadline) or 0.0,
        reaction_s=None if met is None or down is None else down - met,
        late_after=_late(after, deadline),
        late_under_load=_late([one for one in after if one.arrived < load.ends], deadline),
        back_s=_back(seen, load.ends),
    )


def ladder(deblur: Deblurrer) -> list[Step]:
    """The model, the model at half the frame's size, and nothing."""

    def at_half(image: Any) -> Result:
        height, width = image.shape[:2]
        half = (-(-width // 2), -(-height // 2))
        result = deblur(cv2.resize(image, half, interpolation=cv2.INTER_AREA))
        return replace(result, image=cv2.resize(result.image, (width, height)), defocus=None)

    return [Step("best", deblur), Step("half size", at_half), Step("as it is", pass_through)]


def measure(
    model: str,
    steps: Sequence[Step],
    size: Size,
    seconds: float,
    machine: Machine,
    *,
    fps: int | None = None,
    deadline_ms: float | None = None,
) -> Report:
    """One run of `steps`, which are those of `model`."""
    if seconds < _LEAST:
        raise UsageError(f"--seconds {seconds:g}: the load lasts a sixth; take {_LEAST:g} or more")
    load_time, picture = Load(seconds / 3, seconds / 2), _picture(size)
    costs = tuple(Cost(name=s.name, milliseconds=_cost(s.run, picture)) for s in steps)
    best = costs[0].milliseconds.median
    fps = fps or _rate(best / 1e3)
    deadline_ms = _ROOM * best if deadline_ms is None else deadline_ms
    watch = Watch(load_time)
    first, *lower = [Step(s.name, watch.step(at, s.run)) for at, s in enumerate(steps)]
    source = Timed(picture, fps, seconds)
    snapshot = Pipeline(
        source, first.run, watch, deadline_ms=deadline_ms, ladder=lower, on_error="stop"
    ).run()
    return Report(
        schema=DEADLINE,
        machine=finish(machine),
        model=model,
        size=str(size),
        seconds=seconds,
        load_from_s=load_time.begins,
        load_until_s=load_time.ends,
        load_factor=2.0,
        fps=fps,
        deadline_ms=deadline_ms,
        steps=costs,
        frames=snapshot.frames,
        dropped=snapshot.dropped,
        missed=snapshot.missed,
        figures=judge(watch.seen(), load_time, deadline_ms / 1e3),
    )


def text(report: Report) -> str:
    """For a terminal."""
    rows = [["step", "ms", "p05", "p95"]]
    for cost in report.steps:
        stats = cost.milliseconds
        rows.append([cost.name, *(f"{v:.1f}" for v in (stats.median, stats.p05, stats.p95))])
    found = report.figures
    busy = "" if found.best_before > _QUIET else "; the machine was busy: this means little"
    return "\n".join(
        (
            common.table(rows),
            "",
            f"{report.model} at {report.size}, {report.fps} frames/s, deadline "
            f"{report.deadline_ms:.0f} ms; everything takes {report.load_factor:g} times as long "
            f"from {report.load_from_s:g} s to {report.load_until_s:g} s of {report.seconds:g} s",
            f"before the load: {found.best_before:.1%} the best way, {found.late_before:.1%} late"
            + busy,
            f"{_reaction(found.reaction_s)} (wanted: at most {REACTION:g} s)",
            f"late from then on: {_percent(found.late_after)} (wanted: at most {LATE:.0%}); of "
            f"those under the load: {_percent(found.late_under_load)}",
            f"the best again after {_seconds(found.back_s)} (wanted: at most {BACK:g} s)",
            f"{report.frames} frames came out, {report.dropped} were dropped, {report.missed} "
            "came late",
        )
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench deadline`."""
    add = parser.add_argument
    add("--model", default="didanet-lite", help="a name (default %(default)s)")
    add("--size", type=common.size, default=Size(160, 120), help="of the frames (160x120)")
    add("--seconds", type=common.duration, default=30.0, help="of the run (default 30)")
    add("--sleep-ms", type=_milliseconds, nargs="+", help="steps that only sleep, best first")
    add("--fps", type=positive, help="frames a second (the most that the model keeps up with)")
    add("--deadline-ms", type=float, help=f"({_ROOM:g} times what the model takes)")
    common.add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    how = {"fps": args.fps, "deadline_ms": args.deadline_ms}
    if args.sleep_ms:
        steps = [Step(f"sleep {ms:g} ms", _sleep(ms)) for ms in args.sleep_ms]
        report = measure("sleep", steps, args.size, args.seconds, describe(), **how)
    else:
        with load(args.model, skip="off") as deblur:
            steps = ladder(deblur)
            report = measure(args.model, steps, args.size, args.seconds, describe(), **how)
    common.deliver(report, text(report), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("deadline", "A camera's deadline under load.", add_arguments, run, argv)


def _sleep(milliseconds: float) -> Run:
    def slept(image: Any) -> Result:
        sleep(milliseconds / 1e3)
        return pass_through(image)

    return slept


def _milliseconds(text: str) -> float:
    """An argparse type: how long to sleep."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= _LONGEST:
        message = f"expected milliseconds from 0 to {_LONGEST:g}, got {text!r}"
        raise argparse.ArgumentTypeError(message)
    return value


def _picture(size: Size) -> NDArray[Any]:
    photo = cv2.imread(str(common.PHOTO))
    assert photo is not None
    resized = cv2.resize(photo, (size.width, size.height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized)


def _cost(step: Run, picture: NDArray[Any]) -> Stats:
    """Milliseconds of a frame, after two that make the engine ready."""
    times = []
    for _ in range(22):
        start = perf_counter()
        step(picture)
        times.append(1e3 * (perf_counter() - start))
    return common.stats(times[2:])


def _rate(best: float) -> int:
    """The highest rate of a camera that leaves time; the least one where none does."""
    return next((rate for rate in _RATES if rate * best <= _BUSY), _RATES[-1])


def _share(frames: Sequence[Seen], of: Callable[[Seen], bool]) -> float | None:
    return sum(map(of, frames)) / len(frames) if frames else None


def _late(frames: Sequence[Seen], deadline: float) -> float | None:
    return _share(frames, lambda one: one.handed > one.arrived + deadline)


def _met(seen: Sequence[Seen], load: Load) -> float | None:
    """When the load met the best step: at its begin, or later where the ladder was lower then."""
    before = [one for one in seen if one.begun < load.begins]
    if before and before[-1].at == 0:
        return load.begins
    under = (one for one in seen if load.begins <= one.begun < load.ends)
    return next((one.begun for one in under if one.at == 0), None)


def _back(seen: Sequence[Seen], end: float) -> float | None:
    """Seconds from the load's end until the best step came to stay for a while."""
    lower = [one.begun for one in seen if one.at > 0] + [seen[-1].begun + 1e-9] if seen else []
    for one in seen:
        following = next((time for time in lower if time >= one.begun), 0.0)
        if one.at == 0 and one.begun >= end and following - one.begun >= _STAYS:
            return one.begun - end
    return None


def _reaction(value: float | None) -> str:
    if value is None:
        return "the load did not make it step down, or it was down already"
    return f"stepped down after {_seconds(value)}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _percent(value: float | None) -> str:
    return "no frame" if value is None else f"{value:.2%}"


if __name__ == "__main__":
    sys.exit(main())
