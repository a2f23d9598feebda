"""Frames from a source through a Deblurrer into a sink, all three at work at once.

    with allfocus.load("didanet-lite") as deblur:
        report = Pipeline(Camera(0), deblur, Callback(show), deadline_ms=100).run()

The source is read in one thread and the sink written in another, over lines of bounded length; the
calling thread deblurs, and with a Deblurrer of several `streams` one more thread for each more.
Results leave in the order in which frames came. A file's frames all pass: a slow sink slows the
source. Of a live source the oldest frame is dropped where the line is full; with a deadline the
line holds one, so that what is deblurred is the newest there is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from time import perf_counter
from typing import Any, Literal

from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, ArtefactError, BackendError, UsageError
from allfocus.runtime.real import above_zero
from allfocus.runtime.streams.counters import Counters, Snapshot
from allfocus.runtime.streams.frames import Damaged, Sink, Source, StreamFrame
from allfocus.runtime.streams.ladder import Attempt, Ladder, Shape, Step
from allfocus.runtime.streams.line import Line, WhenFull
from allfocus.runtime.streams.patience import join
from allfocus.runtime.streams.turns import Turns

log = logging.getLogger("allfocus")

OnError = Literal["stop", "skip"]
_LENGTH = 4  # frames that may wait, by default
_HOPELESS = 3  # frames in a row that the engine fails on: so may all that follow
_PATIENCE = 5.0  # seconds that a source which was told to end may take


class Pipeline:
    """See the module's text. Made for one run.

    `deadline_ms` is counted from a frame's arrival until its result is handed to the sink. Where
    the Deblurrer would miss it, the steps of `ladder` are gone down, each quicker than the one
    before, and up again when there is room: `Step("lite", allfocus.load("didanet-lite"))`,
    `Step("coarse", deblur.variant(skip=1.5))`, `Step("as it is", pass_through)`. Each is run twice
    on the first frame, before its result is handed on: engines prepare themselves for a frame's
    size, which is not to happen when there is no time. With a Deblurrer of several `streams` as
    many frames are in hand at once, and several threads call the steps.
    `length`: frames that may wait on either side. By default 4, and 1 with a live source and a
    deadline: what waits grows old. `when_full`: "wait", "drop-oldest" or "drop-newest"; by default
    a live source drops the oldest, and any other waits.
    `on_error`: what a frame that cannot be read or deblurred does: "stop", or "skip" and count. A
    model that is closed, and an engine that fails on three frames in a row, end it all the same.
    """

    def __init__(
        self,
        source: Source,
        deblurrer: Deblurrer | Callable[[Any], Result],
        sink: Sink,
        *,
        deadline_ms: float | None = None,
        ladder: Sequence[Step] = (),
        length: int | None = None,
        when_full: WhenFull | None = None,
        on_error: OnError = "skip",
    ) -> None:
        if not isinstance(source, Source):
            raise UsageError(
                f"source: expected one of allfocus.runtime.streams, got {type(source).__name__}; "
                "pictures in a list or any other iterable go in as simple.Frames(pictures)"
            )
        if not isinstance(sink, Sink):
            raise UsageError(
                f"sink: expected one of allfocus.runtime.streams, got {type(sink).__name__}; a "
                "function of a frame and its result goes in as simple.Callback(function)"
            )
        if on_error not in ("stop", "skip"):
            raise UsageError(f"on_error: expected stop or skip, got {on_error!r}")
        if ladder and deadline_ms is None:
            raise UsageError("a ladder is of use with a deadline only: give deadline_ms")
        self.counters = Counters()
        self._source = source
        self._sink = sink
        self._on_error = on_error
        steps = (Step("best", deblurrer), *ladder)
        self._ladder = Ladder(steps, _seconds(deadline_ms))
        for step in steps:
            if isinstance(step.run, Deblurrer):
                source.check(step.run)
                sink.check(step.run)
        self._climbing = Lock()
        self._workers = deblurrer.streams if isinstance(deblurrer, Deblurrer) else 1
        self._turns = Turns()
        policy: WhenFull = when_full or ("drop-oldest" if source.live else "wait")
        if length is None:
            length = _LENGTH if deadline_ms is None or not source.live else 1
        self._given: Line[StreamFrame | Damaged] = Line(length, policy)
        self._done: Line[tuple[StreamFrame, Result]] = Line(length)
        self._stopped = Event()
        self._failure: BaseException | None = None
        self._failed = 0  # frames that the engine failed on, since the last that passed

    def run(self) -> Snapshot:
        """Work until the source ends, `stop` is called, or something fails; the last counters.

        Source and sink are closed then. Raises the first error, once what was done is written.
        """
        self.counters.start()
        reader = Thread(target=self._read, name="allfocus-source", daemon=True)
        writer = Thread(target=self._write, name="allfocus-sink", daemon=True)
        more = [
            Thread(target=self._help, name="allfocus-deblur", daemon=True)
            for _ in range(self._workers - 1)
        ]
        for thread in (reader, writer, *more):
            thread.start()
        try:
            self._deblur()
        except BaseException as error:
            self._fail(error)
        finally:
            self._given.close(empty=True)
            for thread in more:
                join(thread)
            self._done.close()
            join(writer)
            self._end(reader)
        if self._failure is not None:
            raise self._failure
        return self.snapshot()

    def stop(self) -> None:
        """End after the frames in hand; for signal handlers and other threads."""
        self._stopped.set()
        self._given.close(empty=True)

    def snapshot(self) -> Snapshot:
        """The counters now; for any thread."""
        return self.counters.snapshot(self._given.dropped)

    def _read(self) -> None:
        try:
            for frame in self._source.frames():
                if self._stopped.is_set() or not self._given.put(frame):
                    break
        except BaseException as error:  # what came before it is still done
            self._failure = self._failure or error
        finally:
            self._given.close()

    def _deblur(self) -> None:
        passed, prepared = True, len(self._ladder.steps) == 1
        while passed:
            number, frame = self._turns.take(self._given.get)
            if frame is None:
                break
            done = self._outcome(frame)
            if not prepared and not isinstance(done, Damaged):
                self._prepare(done[0])
                prepared = True
            with self._turns.turn(number) as came:
                passed = came and self._pass_on(done)

    def _help(self) -> None:
        try:
            self._deblur()
        except BaseException as error:
            self._fail(error)

    def _outcome(self, frame: StreamFrame | Damaged) -> tuple[StreamFrame, Result] | Damaged:
        if isinstance(frame, Damaged):
            return frame
        try:
            done = frame, self._in_time(frame)
        except AllfocusError as error:
            self._failed += isinstance(error, BackendError)
            hopeless = self._failed >= _HOPELESS or isinstance(error, ArtefactError | UsageError)
            if hopeless and not self._stopped.is_set():  # no frame would pass
                raise
            return Damaged(frame.index, error)
        self._failed = 0
        return done

    def _pass_on(self, done: tuple[StreamFrame, Result] | Damaged) -> bool:
        """Hand a frame to the sink, or count it as damaged; False where the sink takes no more."""
        if isinstance(done, Damaged):
            self._bad(done.index, done.error)
            return True
        return self._done.put(done)

    def _in_time(self, frame: StreamFrame) -> Result:
        """Deblur one frame by the step that its deadline leaves room for."""
        left = self._due(frame) - perf_counter()
        with self._climbing:
            chosen = self._ladder.choose(left, _shape(frame))
            many = len(self._ladder.steps) > 1
            self.counters.stepped(chosen.at, chosen.step.name if many else "")
        return self._timed(chosen, frame)

    def _timed(self, chosen: Attempt, frame: StreamFrame) -> Result:
        start = perf_counter()
        result = chosen.step.run(frame.image)
        seconds = perf_counter() - start
        with self._climbing:
            self._ladder.done(chosen, seconds)
        return result

    def _prepare(self, frame: StreamFrame) -> None:
        """Run every lower step, once to make it ready and once to see how long it takes."""
        for at, step in enumerate(self._ladder.steps[1:], 1):
            for _ in range(2):
                if self._stopped.is_set():
                    return
                try:
                    self._timed(self._ladder.attempt(at, _shape(frame)), frame)
                except AllfocusError as error:
                    log.warning("step %r of the ladder fails: %s", step.name, error)
                    break

    def _due(self, frame: StreamFrame) -> float:
        """When its result must be handed to the sink."""
        deadline = self._ladder.deadline
        return math.inf if deadline is None else frame.arrived + deadline

    def _write(self) -> None:
        try:
            while (item := self._done.get()) is not None:
                frame, result = item
                if perf_counter() > self._due(frame):
                    self.counters.missed()
                self._sink.write(frame, result)
                trust = None if result.trust is None else float(result.trust.mean())
                self.counters.written(frame.arrived, result.skipped, trust)
        except BaseException as error:
            self._fail(error)
            self._done.close(empty=True)

    def _bad(self, index: int, error: AllfocusError) -> None:
        if self._on_error == "stop":
            raise error
        self.counters.damaged()
        log.warning("frame %d left out: %s", index, error)

    def _fail(self, error: BaseException) -> None:
        """Keep the first error, and let all others end."""
        if self._failure is None:
            self._failure = error
        self.stop()
        self._turns.end()

    def _end(self, reader: Thread) -> None:
        """Close source and sink; the first error there is the run's, where it had none."""
        self._stopped.set()
        for end in (self._sink.close, self._source.close):
            try:
                end()
            except BaseException as error:
                self._fail(error)
        reader.join(_PATIENCE)
        if reader.is_alive():
            log.warning("the source does not end: it is left to itself")


def _shape(frame: StreamFrame) -> Shape:
    """A frame's shape, which an engine prepares itself for; () of what tells none."""
    shape = getattr(frame.image, "shape", ())
    return shape if isinstance(shape, tuple) else ()


def _seconds(deadline_ms: object) -> float | None:
    """A deadline; raises UsageError for what is none."""
    if deadline_ms is None:
        return None
    milliseconds = above_zero(deadline_ms)
    if milliseconds is None:
        raise UsageError(f"deadline_ms: expected milliseconds above 0, got {deadline_ms!r}")
    return milliseconds / 1e3
