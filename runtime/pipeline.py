"""Frames from a source through a Deblurrer into a sink, all three at work at once.

    with allfocus.load("didanet-lite") as deblur:
        report = Pipeline(Camera(0), deblur, Callback(show), deadline_ms=100).run()

The source is read in one thread and the sink written in another, over lines of bounded length; the
calling thread deblurs, and with a Deblurrer of several `streams` one more thread for each more.
Results leave in the order in which frames came. A file's frames all pass: a slow sink slows the
source. Of a live source the oldest frame is dropped where the line is full.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from time import perf_counter
from typing import Any, Literal

from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.streams.counters import Counters, Snapshot
from allfocus.runtime.streams.frames import Damaged, Sink, Source, StreamFrame
from allfocus.runtime.streams.ladder import Ladder, Step
from allfocus.runtime.streams.line import Line, WhenFull
from allfocus.runtime.streams.turns import Turns

log = logging.getLogger("allfocus")

OnError = Literal["stop", "skip"]
_PATIENCE = 5.0  # seconds that a source which was told to end may take


class Pipeline:
    """See the module's text. Made for one run.

    `deadline_ms` is counted from a frame's arrival. Where the Deblurrer would miss it, the steps of
    `ladder` are gone down, each quicker than the one before, and up again when there is room:
    `Step("lite", allfocus.load("didanet-lite"))`, `Step("coarse", deblur.variant(skip=1.5))`,
    `Step("as it is", pass_through)`. With a Deblurrer of several `streams` as many frames are in
    hand at once, and several threads call the steps.
    `length`: frames that may wait on either side. `when_full`: "wait", "drop-oldest" or
    "drop-newest"; by default a live source drops the oldest, and any other waits.
    `on_error`: what a frame that cannot be read or deblurred does: "stop", or "skip" and count.
    """

    def __init__(
        self,
        source: Source,
        deblurrer: Deblurrer | Callable[[Any], Result],
        sink: Sink,
        *,
        deadline_ms: float | None = None,
        ladder: Sequence[Step] = (),
        length: int = 4,
        when_full: WhenFull | None = None,
        on_error: OnError = "skip",
    ) -> None:
        if on_error not in ("stop", "skip"):
            raise UsageError(f"on_error: expected stop or skip, got {on_error!r}")
        if ladder and deadline_ms is None:
            raise UsageError("a ladder is of use with a deadline only: give deadline_ms")
        self.counters = Counters()
        self._source = source
        self._sink = sink
        self._on_error = on_error
        steps = (Step("best", deblurrer), *ladder)
        self._ladder = Ladder(steps, None if deadline_ms is None else deadline_ms / 1e3)
        self._climbing = Lock()
        self._workers = deblurrer.streams if isinstance(deblurrer, Deblurrer) else 1
        self._turns = Turns()
        policy: WhenFull = when_full or ("drop-oldest" if source.live else "wait")
        self._given: Line[StreamFrame | Damaged] = Line(length, policy)
        self._done: Line[tuple[StreamFrame, Result]] = Line(length)
        self._stopped = Event()
        self._failure: BaseException | None = None

    def run(self) -> Snapshot:
        """Work until the source ends, `stop` is called, or something fails; the last counters.

        Source and sink are closed then. Raises the first error, once what was done is written.
        """
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
                thread.join()
            self._done.close()
            writer.join()
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
        passed = True
        while passed:
            number, frame = self._turns.take(self._given.get)
            if frame is None:
                break
            done = self._outcome(frame)
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
            return frame, self._in_time(frame)
        except AllfocusError as error:
            return Damaged(frame.index, error)

    def _pass_on(self, done: tuple[StreamFrame, Result] | Damaged) -> bool:
        """Hand a frame to the sink, or count it as damaged; False where the sink takes no more."""
        if isinstance(done, Damaged):
            self._bad(done.index, done.error)
            return True
        return self._done.put(done)

    def _in_time(self, frame: StreamFrame) -> Result:
        """Deblur one frame by the step that its deadline leaves room for."""
        start = perf_counter()
        deadline = self._ladder.deadline
        left = 0.0 if deadline is None else frame.arrived + deadline - start
        with self._climbing:
            step, at = self._ladder.choose(left), self._ladder.at
            self.counters.stepped(at, step.name if len(self._ladder.steps) > 1 else "")
        result = step.run(frame.image)
        end = perf_counter()
        with self._climbing:
            self._ladder.done(end - start, at)
        if deadline is not None and end > frame.arrived + deadline:
            self.counters.missed()
        return result

    def _write(self) -> None:
        try:
            while (item := self._done.get()) is not None:
                frame, result = item
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
