"""Keeping a deadline: a ladder of ways to do a frame, each quicker and worse than the one before.

A way's cost is kept in two figures: what it takes when nothing else runs (`calm`), and how much
slower everything is at the moment (`strain`), which is seen on the way in use and holds for all.
So the way above is judged without being tried. Where the way in use costs next to nothing, nothing
is seen: then strain is forgotten with time, and the way above is tried now and then.

Figures may be wrong, and what is not run is not corrected. So a way's first run is left out, which
is slower: engines prepare themselves for a frame's size. And a way that was gone down from is tried
again after 1 s where there seems to be room, and after 2 s whatever is known. Either is doubled
each time that it was too early, up to 32 s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from allfocus.runtime.deblurrer import Result
from allfocus.runtime.errors import UsageError
from allfocus.runtime.real import above_zero

Shape = tuple[int, ...]

_SAFETY = 1.15  # a way must be expected to need so much less than there is
_ROOM = 1.2  # ... and so much less before it is gone back to
_HOLD = 0.5  # seconds between any change and a step up
_NOTHING = 0.05  # of the dearest way's cost: too little to see strain on
_CALMING = 1.0  # seconds in which strain that nobody sees falls to a third
_MOST_STRAIN = 5.0  # so that one frame that hung does not lead all the way down
_CALM = 1.2  # times a cost is the same but for noise
_PAUSE, _DOUBT, _LONGEST = 1.0, 2.0, 32.0  # seconds; see the module's text
_STOOD = 4.0  # seconds after which a step up was not too early
_SHAPES = 64  # of frames, that a way is known to be prepared for


@dataclass(frozen=True)
class Step:
    """A way to do a frame: its name, and what does it."""

    name: str
    run: Callable[[Any], Result]


@dataclass(frozen=True)
class Attempt:
    """One frame and the step chosen for it; `Ladder.done` is told what it has taken."""

    step: Step
    at: int
    shape: Shape
    first: bool  # no run of this step at this shape was over when it was chosen
    tried: bool  # chosen to see whether it is quick enough again


@dataclass
class _Known:
    """What is known of one step."""

    calm: float = math.nan  # seconds for each sample of a frame
    pause: float = _PAUSE  # seconds for which it is left alone
    doubt: float = _DOUBT  # seconds for which it is believed to be too slow
    last: float = -math.inf  # when it was run
    ready: set[Shape] = field(default_factory=set)
    left_out: Shape | None = None  # of the first run that was not learned from, the last of all


def pass_through(image: Any) -> Result:
    """The last resort: the frame as it came."""
    return Result(image, None, {"pre": 0.0, "infer": 0.0, "post": 0.0}, skipped=1.0)


class Ladder:
    """Chooses the step for each frame. Steps go from the best to the quickest."""

    def __init__(
        self,
        steps: Sequence[Step],
        deadline: float | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.steps = _checked(steps)
        self.deadline = None if deadline is None else _seconds(deadline)
        self.at = 0
        self._clock = clock
        self._known = [_Known() for _ in steps]
        self._strain, self._seen = 1.0, clock()
        self._changed = self._risen = -math.inf
        self._doubted = False  # whether the last step up was against what was known

    def choose(self, left: float, shape: Sequence[int] = ()) -> Attempt:
        """The way for a frame of `shape` that must be done in `left` seconds.

        One that is late already is done the quickest way, which says nothing about the others.
        """
        if self.deadline is None:
            return self.attempt(0, shape)
        if left <= 0:
            return self.attempt(len(self.steps) - 1, shape)
        tried = self._move(left, math.prod(shape), self._clock())
        return self.attempt(self.at, shape, tried=tried)

    def done(self, attempt: Attempt, seconds: float) -> None:
        """What the chosen way has taken."""
        known, now = self._known[attempt.at], self._clock()
        known.last = now
        if attempt.tried:
            self._risen = now  # not before, though it took ever so long
        if self._tells(known, attempt):
            self._learn(attempt, seconds / max(1, math.prod(attempt.shape)), now)

    def attempt(self, at: int, shape: Sequence[int], *, tried: bool = False) -> Attempt:
        """A frame of `shape` by the step `at`, whether it would be chosen or not."""
        size = tuple(shape)
        return Attempt(self.steps[at], at, size, size not in self._known[at].ready, tried)

    def _move(self, left: float, samples: int, now: float) -> bool:
        """Go down as far as need be, or up where there is room; whether it went up."""
        lower = self.at
        while lower + 1 < len(self.steps) and self._expected(lower, samples, now) * _SAFETY > left:
            lower += 1
        if lower > self.at:
            self._fall(lower, now)
            return False
        return bool(self.at) and self._rise(left, samples, now)

    def _fall(self, lower: int, now: float) -> None:
        known = self._known[self.at]
        if now - self._risen >= _STOOD:
            known.pause, known.doubt = _PAUSE, _DOUBT
        elif self._doubted:
            known.doubt = min(2 * known.doubt, _LONGEST)
        else:
            known.pause = min(2 * known.pause, _LONGEST)
        self.at, self._changed = lower, now

    def _rise(self, left: float, samples: int, now: float) -> bool:
        """Go up where that would be in time, or where it is time to doubt that it would not."""
        above = self._known[self.at - 1]
        idle, stood = now - above.last, now - self._changed
        if stood < _HOLD or idle < above.pause:
            return False
        room = self._expected(self.at - 1, samples, now) * _ROOM <= left
        if not room and min(idle, stood) < above.doubt:
            return False
        self.at, self._changed, self._risen, self._doubted = self.at - 1, now, now, not room
        return True

    def _tells(self, known: _Known, attempt: Attempt) -> bool:
        """Whether to learn from a run.

        A first one is left out, but not where each frame's shape is new: there it is the rule.
        """
        if len(known.ready) >= _SHAPES:
            known.ready.clear()
        known.ready.add(attempt.shape)
        if not attempt.first:
            known.left_out = None
            return True
        if known.left_out in (None, attempt.shape):  # several may be at work on their first at once
            known.left_out = attempt.shape
            return False
        return True

    def _learn(self, attempt: Attempt, cost: float, now: float) -> None:
        known, strain = self._known[attempt.at], self._strain_at(now)
        if math.isnan(known.calm):
            known.calm = cost
            return
        factor = cost / max(known.calm, 1e-18)
        if self._shows(known):
            self._strained(attempt, factor, strain, now)
        if attempt.tried and factor < 1:  # what was known is old
            known.calm = cost
        elif factor < _CALM:  # calm enough to learn from
            known.calm += 0.1 * (cost - known.calm)

    def _strained(self, attempt: Attempt, factor: float, strain: float, now: float) -> None:
        """Learn how much slower all is now, of a step that took `factor` times its calm cost.

        A step that is tried is believed at once. Where it says something else than the one below
        did, that one's cost was learned at another time than a calm one.
        """
        factor = min(max(factor, 1.0), _MOST_STRAIN)
        self._strain, self._seen = 0.5 * strain + 0.5 * factor, now
        if attempt.tried:
            self._strain = factor
            below = self._known[attempt.at + 1]
            if self._shows(below):
                below.calm *= strain / factor

    def _shows(self, known: _Known) -> bool:
        """Whether a step costs enough to see strain on."""
        dearest = max(each.calm for each in self._known if not math.isnan(each.calm))
        return known.calm > _NOTHING * dearest

    def _expected(self, step: int, samples: int, now: float) -> float:
        """Seconds that a step would take now; nothing where nothing is known of it."""
        calm = self._known[step].calm
        return 0.0 if math.isnan(calm) else calm * max(1, samples) * self._strain_at(now)

    def _strain_at(self, now: float) -> float:
        """How much slower all is than when calm; less, the longer nobody has seen it."""
        unseen = max(0.0, now - self._seen - 0.1)
        return 1 + (self._strain - 1) * math.exp(-unseen / _CALMING)


def _checked(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps; raises UsageError where there are none, or other things among them."""
    if not steps:
        raise UsageError("a ladder needs at least one step")
    for step in steps:
        if not isinstance(step, Step):
            raise UsageError(f'ladder: expected steps, such as Step("lite", deblur), got {step!r}')
    return tuple(steps)


def _seconds(deadline: object) -> float:
    """A deadline; raises UsageError for what is none."""
    seconds = above_zero(deadline)
    if seconds is None:
        raise UsageError(f"deadline: expected seconds above 0, got {deadline!r}")
    return seconds
