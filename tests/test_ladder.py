"""Keeping a deadline under a load that comes and goes, in a time of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from allfocus.runtime.errors import UsageError
from allfocus.runtime.streams.ladder import Ladder, Step, pass_through

LOADED = (10.0, 15.0)  # seconds in which everything takes twice as long
SECONDS = 30.0


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


def simulate(costs: list[float], fps: float, deadline: float, jitter: float, seed: int) -> Run:
    """A camera at `fps`, and a worker that always takes the newest frame."""
    time = 0.0
    ladder = Ladder([Step(str(cost), pass_through) for cost in costs], deadline, clock=lambda: time)
    rng, run = np.random.default_rng(seed), Run()
    arrivals = np.arange(0.0, SECONDS, 1 / fps)
    index = 0
    while index < len(arrivals):
        time = max(time, arrivals[index])
        while index + 1 < len(arrivals) and arrivals[index + 1] <= time:
            index += 1  # a newer one is there: the older is dropped
        arrived = arrivals[index]
        ladder.choose(arrived + deadline - time)
        factor = 2.0 if LOADED[0] <= time < LOADED[1] else 1.0
        seconds = costs[ladder.at] * factor * float(1 + jitter * abs(rng.standard_normal()))
        time += seconds
        ladder.done(seconds)
        run.arrived.append(float(arrived))
        run.steps.append(ladder.at)
        run.late.append(time > arrived + deadline)
        index += 1
    return run


CASES = [
    ([0.030, 0.012], 25.0, 0.05),
    ([0.030, 0.020, 0.010], 25.0, 0.045),
    ([0.030, 0.0], 25.0, 0.05),  # the last resort costs nothing
    ([0.030, 0.018, 0.0], 30.0, 0.04),
    ([0.060, 0.025, 0.001], 12.0, 0.1),
]


@pytest.mark.parametrize("jitter", [0.0, 0.03])
@pytest.mark.parametrize(("costs", "fps", "deadline"), CASES)
def test_a_load_of_five_seconds(
    costs: list[float], fps: float, deadline: float, jitter: float
) -> None:
    """The issue's figures: at most 1 % late after half a second, the best again within 3 s."""
    for seed in range(5):
        run = simulate(costs, fps, deadline, jitter, seed)
        after = run.missed(LOADED[0] + 0.5, SECONDS)
        frames = sum(at >= LOADED[0] + 0.5 for at in run.arrived)
        assert after <= 0.01 * frames
        assert run.missed(0, LOADED[0]) <= 0.01 * fps * LOADED[0]
        assert run.step_at(LOADED[0] - 0.5) == 0
        assert run.step_at(LOADED[0] + 1.0) > 0
        assert run.step_at(LOADED[1] + 3.0) == 0
        assert run.step_at(SECONDS - 1) == 0


def test_a_step_that_is_never_quick_enough_leads_to_the_last() -> None:
    run = simulate([0.2, 0.1], 10.0, 0.05, 0.0, 0)
    assert run.steps[-1] == 1


def test_without_a_deadline_the_best_way_stays() -> None:
    ladder = Ladder([Step("best", pass_through), Step("quick", pass_through)])
    ladder.done(100.0)
    assert ladder.choose(-1.0).name == "best"


def test_what_is_passed_through_is_the_frame_itself() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    result = pass_through(frame)
    assert result.image is frame
    assert result.skipped == 1


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan"), float("inf")])
def test_absurd_deadlines_are_refused(deadline: float) -> None:
    with pytest.raises(UsageError, match="deadline: expected seconds above 0"):
        Ladder([Step("only", pass_through)], deadline)
    with pytest.raises(UsageError, match="at least one step"):
        Ladder([])
