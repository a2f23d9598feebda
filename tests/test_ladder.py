"""Keeping a deadline under loads that come and go, in a time of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allfocus.runtime.errors import UsageError
from allfocus.runtime.streams.ladder import Ladder, Shape, Step, pass_through

LOADED = (10.0, 15.0)  # seconds in which everything takes twice as long
SECONDS = 30.0
SHAPE: Shape = (120, 160, 3)


@dataclass
class Run:
    """What became of each frame: when it arrived, which step did it, whether it was late."""

    arrived: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)

    def missed(self, since: float, until: float) -> int:
        return sum(
            late for late, at in zip(self.late, self.arrived, strict=True) if since <= at < until
        )

    def step_at(self, time: float) -> int:
        return self.steps[int(np.searchsorted(self.arrived, time))]

    def best(self, since: float, until: float) -> float:
        """The share of the frames then that the first step did."""
        steps = [
            step for step, at in zip(self.steps, self.arrived, strict=True) if since <= at < until
        ]
        return steps.count(0) / len(steps)


@dataclass
class Camera:
    """A camera at `fps`, and a worker that always takes the newest frame, in time of its own.

    `cold` is how much longer a step takes on its first frame of each shape. `factor` is how many
    times as long everything takes at a time.
    """

    costs: list[float]
    fps: float
    deadline: float
    seconds: float = SECONDS
    cold: float = 0.0
    warm: Sequence[float] = ()  # what each step took beforehand: a Pipeline runs it twice
    factor: Callable[[float], float] = lambda _: 1.0
    shape: Callable[[int], Shape] = lambda _: SHAPE
    slow: dict[int, float] = field(default_factory=dict)  # seconds more, by the frame's index

    def run(self, jitter: float = 0.0, seed: int = 0) -> Run:
        time, index, run = 0.0, 0, Run()
        steps = [Step(str(cost), pass_through) for cost in self.costs]
        ladder = Ladder(steps, self.deadline, clock=lambda: time)
        rng, prepared = np.random.default_rng(seed), set()
        for at, cost in enumerate(self.warm):
            for seconds in (cost + self.cold, cost):
                ladder.done(ladder.attempt(at, SHAPE), seconds)
            prepared.add((at, SHAPE))
        arrivals = np.arange(0.0, self.seconds, 1 / self.fps)
        while index < len(arrivals):
            time = max(time, arrivals[index])
            while index + 1 < len(arrivals) and arrivals[index + 1] <= time:
                index += 1  # a newer one is there: the older is dropped
            arrived, shape = float(arrivals[index]), self.shape(index)
            chosen = ladder.choose(arrived + self.deadline - time, shape)
            larger = np.prod(shape) / np.prod(SHAPE)
            seconds = self.costs[chosen.at] * self.factor(time) * larger
            seconds *= 1 + jitter * abs(rng.standard_normal())
            if (chosen.at, shape) not in prepared:
                seconds += self.cold
                prepared.add((chosen.at, shape))
            seconds += self.slow.get(index, 0.0)
            time += float(seconds)
            ladder.done(chosen, float(seconds))
            run.arrived.append(arrived)
            run.steps.append(chosen.at)
            run.late.append(time > arrived + self.deadline)
            index += 1
        return run


def doubled(time: float) -> float:
    return 2.0 if LOADED[0] <= time < LOADED[1] else 1.0


CASES = [
    ([0.030, 0.012], 25.0, 0.05),
    ([0.030, 0.020, 0.010], 25.0, 0.045),
    ([0.030, 0.0], 25.0, 0.05),  # the last resort costs nothing
    ([0.030, 0.018, 0.0], 30.0, 0.04),
    ([0.060, 0.025, 0.001], 12.0, 0.1),
]


@pytest.mark.parametrize("jitter", [0.0, 0.03])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(("costs", "fps", "deadline"), CASES)
def test_a_load_of_five_seconds(
    costs: list[float], fps: float, deadline: float, warm: bool, jitter: float
) -> None:
    """The issue's figures: at most 1 % late after half a second, the best again within 3 s."""
    for seed in range(5):
        camera = Camera(costs, fps, deadline, cold=0.4, factor=doubled)
        camera.warm = costs if warm else ()
        run = camera.run(jitter, seed)
        frames = sum(at >= LOADED[0] + 0.5 for at in run.arrived)
        first = 0 if warm else 2  # late, of a step that nobody prepared, and the next
        assert run.missed(LOADED[0] + 0.5, SECONDS) <= 0.01 * frames + first
        assert run.missed(1.0, LOADED[0]) <= 0.01 * fps * LOADED[0]
        assert run.step_at(LOADED[0] - 0.5) == 0
        assert run.step_at(LOADED[0] + 1.0) > 0
        assert run.step_at(LOADED[1] + 3.0) == 0
        assert run.step_at(SECONDS - 1) == 0


def test_a_slow_first_frame_pins_nothing_down() -> None:
    run = Camera([0.02, 0.01, 0.0], 20.0, 0.1, cold=1.0).run()
    assert run.step_at(3.0) == 0
    assert run.best(3.0, SECONDS) == 1.0
    assert sum(run.late) == 1


costs = st.floats(0.005, 0.08)
shares = st.floats(0.0, 0.9)  # of the cost of the step above
rooms = st.floats(1.6, 5.0)  # the deadline over the best step's cost


@st.composite
def cameras(draw: st.DrawFn) -> Camera:
    """One whose best step is quick enough, as long as nothing else runs."""
    best = draw(costs)
    ladder = [best]
    for _ in range(draw(st.integers(1, 3))):
        ladder.append(ladder[-1] * draw(shares))
    busy = draw(st.floats(0.2, 1.5))  # how much of the time the best step would take
    fps = busy / best
    wait = 0.0 if busy < 0.8 else 1 / fps  # the newest frame is up to so old
    return Camera(ladder, fps, best * draw(rooms) + wait, cold=draw(st.floats(0.0, 2.0)))


@given(cameras(), st.integers(0, 9))
def test_whatever_the_first_frames_take_the_best_comes_to_stay(camera: Camera, seed: int) -> None:
    run = camera.run(0.02, seed)
    ready = 3.0 + 2 * camera.cold  # a second step may be run for the first time, too
    assert run.best(ready, SECONDS) == 1.0
    assert run.missed(ready, SECONDS) == 0


@given(cameras(), st.integers(0, 40), st.floats(0.1, 3.0))
def test_one_slow_frame_is_forgotten(camera: Camera, index: int, slow: float) -> None:
    """Also where it is the second one, the first that is learned from."""
    camera.slow = {index: slow}
    after = (index + 1) / camera.fps + slow + camera.cold
    camera.seconds = after + 10.0
    run = camera.run()
    assert run.best(after + 3.0, camera.seconds) == 1.0


@given(cameras(), st.floats(2.0, 4.0), st.floats(3.0, 8.0), st.floats(1.0, 8.0))
def test_the_best_is_back_soon_after_a_load(
    camera: Camera, times: float, begins: float, lasts: float
) -> None:
    """Within the time that it lasted: where nothing is seen, the doubled pauses are as long."""
    camera.warm = camera.costs
    camera.seconds = begins + 2 * lasts + 10
    camera.factor = lambda time: times if begins <= time < begins + lasts else 1.0
    run = camera.run(0.02)
    assert run.best(begins + 2 * lasts + 3.0, camera.seconds) == 1.0


@settings(max_examples=15)  # of 6,400 frames each
@given(cameras(), st.floats(1.2, 20.0), st.booleans())
@example(Camera([0.0625, 0.0], 16.0, 0.375), 11.0, False)  # one frame takes 4 s
def test_a_step_that_is_never_quick_enough_is_tried_ever_less(
    camera: Camera, times: float, blind: bool
) -> None:
    """No flapping: a handful of trials at first, then one in half a minute."""
    slow = times * camera.deadline
    last = 0.0 if blind else 0.3 * camera.deadline
    seconds = 320.0
    run = Camera([slow, last], 20.0, camera.deadline, seconds, cold=camera.cold).run(0.02)
    trials = sum(a > 0 and b == 0 for a, b in pairwise(run.steps))
    assert 5 <= trials <= 6 + seconds / 32
    assert run.best(0, seconds) < 0.02
    assert run.step_at(seconds - 40) == 1 or run.missed(seconds - 40, seconds) <= 3


@pytest.mark.parametrize(
    ("costs", "times"),
    [
        ([0.03, 0.0], 2),
        ([0.03, 0.0], 5),
        ([0.03, 0.0], 20),
        ([0.03, 0.01], 2),
        ([0.03, 0.025, 0.005], 4),
    ],
)
def test_a_long_load_costs_a_late_frame_now_and_then(costs: list[float], times: float) -> None:
    """The last step shows nothing of it, or was never run without it: the best is tried, one frame
    each time, ever less."""
    camera = Camera(costs, 10.0, 0.0555, 320.0, warm=costs)
    camera.factor = lambda time: times if time > 5 else 1.0
    run = camera.run()
    trials = sum(a > b for a, b in pairwise(run.steps))
    assert 5 <= trials <= 6 + 315 / 32
    assert run.missed(6.0, 320.0) <= (trials if times < 20 else 2 * trials)  # a second waits


def test_what_hung_once_is_forgotten_in_a_moment() -> None:
    loads = lambda time: 9.0 if 5.0 <= time < 40.0 else 1.0  # noqa: E731
    run = Camera([0.02, 0.0], 20.0, 0.04, 120.0, factor=loads, slow={1800: 5.0}).run()
    assert run.best(0.5, 5.0) == run.best(75.0, 90.0) == 1.0
    assert run.best(95.0 + 3.0, 120.0) == 1.0
    again = Camera([0.02, 0.005, 0.0], 20.0, 0.04, 10.0, slow={100: 2.0}).run()
    assert 2 not in again.steps[:100] + again.steps[103:]  # but for one that had waited


def test_a_trial_against_what_is_known_delays_nothing() -> None:
    """Under load the second step is doubted twice, the last time just before it ends at 12 s."""
    factor = lambda time: 3.0 if 5.0 <= time < 12.0 else 1.0  # noqa: E731
    costs = [0.03, 0.02, 0.005]
    run = Camera(costs, 20.0, 0.05, factor=factor, warm=costs).run()
    assert 1 in {s for s, at in zip(run.steps, run.arrived, strict=True) if 11.0 < at < 12.0}
    assert run.best(13.5, SECONDS) == 1.0


def test_what_got_quicker_while_it_was_not_used_is_found_out() -> None:
    """Begun under a load: nothing was ever measured without it."""
    factor = lambda time: 3.0 if time < 8.0 else 1.0  # noqa: E731
    run = Camera([0.03, 0.0], 20.0, 0.05, factor=factor).run()
    assert run.best(0.5, 8.0) < 0.05
    assert run.best(16.0, SECONDS) == 1.0


def test_a_step_that_was_in_time_when_it_was_tried_stays() -> None:
    """What was learned of it was a quarter too much."""
    run = Camera([0.057, 0.014], 15.0, 0.08, slow={1: 0.015}).run()
    assert run.best(0.2, 1.0) == 0.0
    assert run.best(3.0, SECONDS) == 1.0


def test_a_lower_step_that_seemed_quicker_than_it_is_pins_nothing_down() -> None:
    """It took 10 ms beforehand and 14 ms ever after, which looks like a load."""
    loads = lambda time: 2.0 if 5.0 <= time < 10.0 or 40.0 <= time < 42.0 else 1.0  # noqa: E731
    run = Camera([0.05, 0.014], 10.0, 0.08, 60.0, factor=loads, warm=[0.05, 0.01]).run()
    assert run.best(6.0, 10.0) < 0.1
    assert run.best(13.0, 40.0) == 1.0
    assert run.best(43.0, 60.0) == 1.0


def test_costs_follow_the_frames_size() -> None:
    """A camera that gives four times the pixels from 10 s on, and goes back at 20 s."""
    large: Shape = (240, 320, 3)
    camera = Camera([0.03, 0.008, 0.0], 20.0, 0.06, cold=0.5)
    camera.shape = lambda index: large if 200 <= index < 400 else SHAPE
    run = camera.run(0.02)
    assert run.best(1.0, 10.0) == 1.0
    assert run.best(10.5, 20.0) < 0.02
    assert run.missed(12.0, 20.0) <= 2
    assert run.best(20.5, SECONDS) == 1.0


def test_a_new_size_with_each_frame_is_learned_from_all_the_same() -> None:
    camera = Camera([0.2, 0.0], 20.0, 0.1)
    camera.shape = lambda index: (120, 160 + index, 3)
    run = camera.run()
    assert run.best(2.0, SECONDS) < 0.05


def test_a_frame_that_is_late_already_goes_the_quickest_way_and_says_nothing() -> None:
    ladder = Ladder([Step(name, pass_through) for name in "abc"], deadline=1.0)
    assert ladder.choose(0.5).step.name == "a"
    assert ladder.choose(-0.5).step.name == "c"
    assert ladder.choose(0.5).step.name == "a"


def test_half_a_second_passes_before_it_goes_up() -> None:
    """One frame that had waited says little of the next."""
    time = 0.0
    ladder = Ladder([Step(name, pass_through) for name in "abc"], 0.1, clock=lambda: time)
    for at, cost in enumerate((0.03, 0.02, 0.01)):
        for _ in range(2):
            ladder.done(ladder.attempt(at, ()), cost)
    chosen = []
    for now, left in ((5.0, 0.015), (5.1, 0.1), (5.4, 0.1), (5.6, 0.1), (5.7, 0.1), (6.2, 0.1)):
        time = now
        chosen.append(ladder.choose(left).at)
    assert chosen == [2, 2, 2, 1, 1, 0]


def test_a_step_that_is_never_quick_enough_leads_to_the_last() -> None:
    run = Camera([0.2, 0.1], 10.0, 0.05).run()
    assert run.steps[-1] == 1


def test_several_at_work_on_their_first_frame_are_all_left_out() -> None:
    """Each thread's engine prepares itself."""
    ladder = Ladder([Step("best", pass_through), Step("quick", pass_through)], 0.1, lambda: 0.0)
    begun = [ladder.choose(0.1, SHAPE) for _ in range(3)]
    for attempt in begun:
        ladder.done(attempt, 5.0)
    assert ladder.choose(0.1, SHAPE).at == 0
    ladder.done(ladder.choose(0.1, SHAPE), 0.05)
    ladder.done(ladder.choose(0.1, (9, 9)), 5.0)  # a new size, later
    assert ladder.choose(0.1, SHAPE).at == 0
    ladder.done(ladder.choose(0.1, SHAPE), 5.0)
    assert ladder.choose(0.1, SHAPE).at == 1


def test_a_frame_is_counted_for_the_step_that_did_it() -> None:
    ladder = Ladder([Step("slow", pass_through), Step("quick", pass_through)], 1.0, lambda: 0.0)
    for at in (0, 1):
        ladder.done(ladder.attempt(at, ()), 9.0)  # left out
    begun = ladder.choose(1.0)
    ladder.done(ladder.choose(1.0), 2.0)
    quick = ladder.choose(1.0)
    assert (begun.at, quick.at) == (0, 1)
    ladder.done(begun, 2.2)  # one that was begun before
    ladder.done(quick, 0.1)
    assert ladder.choose(1.0).at == 1


def test_what_costs_next_to_nothing_tells_nothing_though_it_alone_is_known() -> None:
    """Beforehand, and for a frame that came late: microseconds are noise."""
    ladder = Ladder([Step(name, pass_through) for name in "abc"], 0.1, lambda: 0.0)
    for at, seconds in ((1, 0.03), (1, 0.03), (2, 1e-6), (2, 1e-6)):
        ladder.done(ladder.attempt(at, ()), seconds)
    for _ in range(5):
        ladder.done(ladder.choose(-1.0), 9e-6)
    ladder.done(ladder.attempt(0, ()), 0.05)
    ladder.done(ladder.attempt(0, ()), 0.05)
    assert ladder.choose(0.06).at == 0


def test_without_a_deadline_the_best_way_stays() -> None:
    ladder = Ladder([Step("best", pass_through), Step("quick", pass_through)])
    for _ in range(3):
        ladder.done(ladder.choose(-1.0), 100.0)
    assert ladder.choose(-1.0).step.name == "best"


def test_what_is_passed_through_is_the_frame_itself() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    result = pass_through(frame)
    assert result.image is frame
    assert result.skipped == 1


@pytest.mark.parametrize(
    "deadline",
    [0.0, -1.0, float("nan"), float("inf"), "0.1", True, [1], pytest.param(10**400, id="huge")],
)
def test_absurd_deadlines_are_refused(deadline: Any) -> None:
    with pytest.raises(UsageError, match="deadline: expected seconds above 0, got "):
        Ladder([Step("only", pass_through)], deadline)


def test_a_ladder_is_of_steps() -> None:
    with pytest.raises(UsageError, match="at least one step"):
        Ladder([])
    with pytest.raises(UsageError, match="ladder: expected steps, such as Step"):
        Ladder([pass_through])  # type: ignore[list-item]
