"""`allfocus bench deadline`: what it makes of a run, and that it runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import allfocus
from allfocus import cli
from allfocus.benchmarks import deadline
from allfocus.benchmarks.deadline import (
    Load,
    Report,
    Seen,
    Timed,
    Watch,
    judge,
    ladder,
)
from allfocus.benchmarks.machine import describe
from allfocus.benchmarks.schema import decode
from allfocus.runtime.deblurrer import Result
from allfocus.runtime.streams.frames import StreamFrame
from allfocus.runtime.streams.ladder import pass_through

LOAD = Load(10.0, 15.0)
DEADLINE = 0.1


def frames(lower: tuple[float, float], late: tuple[float, ...] = ()) -> list[Seen]:
    """10 frames a second for 30 s: a lower step within `lower`, and those at `late` late."""
    return [
        Seen(at, at + 0.01, int(lower[0] <= at < lower[1]), at + (0.2 if at in late else 0.05))
        for at in (round(0.1 * n, 1) for n in range(300))
    ]


def test_what_a_run_comes_to() -> None:
    found = judge(frames((10.3, 16.2), late=(10.1, 10.2, 12.0, 20.0, 3.0)), LOAD, DEADLINE)
    assert found.best_before == 1.0
    assert found.late_before == pytest.approx(1 / 100)
    assert found.reaction_s == pytest.approx(0.31)
    assert found.late_under_load == pytest.approx(1 / 46)  # of 10.4 s and later: 12.0
    assert found.late_after == pytest.approx(2 / 196)
    assert found.back_s == pytest.approx(1.21)


def test_a_frame_at_the_best_that_is_not_kept_up_is_not_back() -> None:
    seen = frames((10.3, 16.2))
    shortly = [
        Seen(one.arrived, one.begun, 0 if 15.1 < one.arrived < 15.9 else one.at, one.handed)
        for one in seen
    ]
    assert judge(shortly, LOAD, DEADLINE).back_s == pytest.approx(1.21)


def test_what_never_came_is_told_as_such() -> None:
    never_down = judge(frames((0, 0)), LOAD, DEADLINE)
    assert (never_down.reaction_s, never_down.late_after, never_down.late_under_load) == (
        None,
        None,
        None,
    )
    assert judge(frames((10.3, 99.0)), LOAD, DEADLINE).back_s is None
    assert judge(frames((10.3, 29.5)), LOAD, DEADLINE).back_s is None  # too short to say
    nothing = judge([], LOAD, DEADLINE)
    assert (nothing.best_before, nothing.reaction_s, nothing.back_s) == (0.0, None, None)


def test_a_ladder_that_was_down_before_the_load_has_not_reacted_to_it() -> None:
    already = judge(frames((9.5, 16.2), late=(12.0,)), LOAD, DEADLINE)
    assert (already.reaction_s, already.late_after, already.late_under_load) == (None, None, None)
    assert already.back_s == pytest.approx(1.21)
    back_again = [one for one in frames((9.5, 16.2)) if not 11.95 < one.arrived < 12.45]
    shortly = [Seen(at, at + 0.01, 0, at + 0.05) for at in (12.0, 12.1, 12.2, 12.3, 12.4)]
    seen = sorted([*back_again, *shortly], key=lambda one: one.begun)
    assert judge(seen, LOAD, DEADLINE).reaction_s == pytest.approx(0.5)  # from 12.01 to 12.51


def test_the_work_is_done_twice_under_load_and_each_frame_has_its_step() -> None:
    time, calls = 100.0, [0, 0]

    def counting(at: int) -> Any:
        def run(image: Any) -> Result:
            calls[at] += 1
            return pass_through(image)

        return run

    watch = Watch(LOAD, clock=lambda: time)
    steps = [watch.step(at, counting(at)) for at in (0, 1)]
    first, second, third = (np.zeros((2, 2, 3), np.uint8) for _ in range(3))
    for image, at, now in ((first, 0, 100.0), (second, 1, 110.0), (third, 0, 115.0)):
        time = now
        result = steps[at](image)
        if image is first:
            steps[1](image)  # as a Pipeline does to make the steps ready
        time = now + 0.5
        watch.write(StreamFrame(image, 0, now - 0.25), result)
    assert calls == [1 + 1, 1 + 2]
    assert watch.seen() == [
        Seen(-0.25, 0.0, 0, 0.5),
        Seen(9.75, 10.0, 1, 10.5),
        Seen(14.75, 15.0, 0, 15.5),
    ]


def test_the_ladder_gives_frames_of_their_size() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3)).astype(np.uint8)
    with allfocus.load("didanet-lite", skip="off") as deblur:
        best, half, last = ladder(deblur)
        made = [step.run(image).image for step in (best, half, last)]
    assert [each.shape for each in made] == [image.shape] * 3
    assert not np.array_equal(made[0], made[1])
    assert made[2] is image


def test_the_camera_gives_copies_until_it_is_closed() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    source = Timed(picture, fps=1000, seconds=0.02)
    assert source.live
    found = list(source.frames())
    assert [frame.index for frame in found] == list(range(20))
    assert found[-1].arrived - found[0].arrived >= 0.018
    assert all(frame.image is not picture for frame in found)
    slow = Timed(picture, fps=0.01, seconds=1000)
    taken = slow.frames()
    next(taken)
    slow.close()
    assert list(taken) == []


def test_it_runs_and_tells(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    out = tmp_path / "deadline.json"
    words = ["bench", "deadline", "--sleep-ms", "20", "5", "0", "--size", "64x48", "--seconds", "3"]
    assert cli.main([*words, "--fps", "30", "--deadline-ms", "32", "--out", str(out)]) == 0
    report = decode(Report, out.read_text())
    assert (report.schema, report.model) == ("allfocus/deadline/1", "sleep")
    assert (report.load_from_s, report.load_until_s, report.load_factor) == (1.0, 1.5, 2.0)
    assert (report.fps, report.deadline_ms) == (30, 32.0)
    assert report.frames + report.dropped == 90
    assert [step.name for step in report.steps] == ["sleep 20 ms", "sleep 5 ms", "sleep 0 ms"]
    assert report.steps[0].milliseconds.p05 >= 20
    told = capsys.readouterr().out
    assert "deadline 32 ms; everything takes 2 times as long from 1 s to 1.5 s of 3 s" in told
    assert "wanted: at most 0.5 s" in told


def test_a_missing_reaction_is_told_as_such() -> None:
    found = judge(frames((9.5, 16.2)), LOAD, DEADLINE)
    report = Report(
        schema="allfocus/deadline/1",
        machine=describe(),
        model="sleep",
        size="64x48",
        seconds=30.0,
        load_from_s=10.0,
        load_until_s=15.0,
        load_factor=2.0,
        fps=10,
        deadline_ms=100.0,
        steps=(),
        frames=300,
        dropped=0,
        missed=0,
        figures=found,
    )
    assert "the load did not make it step down, or it was down already" in deadline.text(report)


def test_rate_and_deadline_follow_from_the_cost(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "deadline", "--sleep-ms", "40", "--seconds", "3", "--json"]
    assert cli.main(words) == 0
    report = decode(Report, capsys.readouterr().out)
    best = report.steps[0].milliseconds.median
    assert report.deadline_ms == pytest.approx(1.6 * best)
    assert report.fps in (1, 2, 5, 10, 15)
    assert report.fps * best <= 750
    assert report.figures.reaction_s is None  # there is no lower step


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--seconds", "1"], "take 3 or more"),
        (["--seconds", "-1"], "expected a number of seconds above 0"),
        (["--sleep-ms", "-1"], "expected milliseconds from 0 to 1000, got '-1'"),
        (["--sleep-ms", "much"], "expected milliseconds from 0 to 1000, got 'much'"),
        (["--sleep-ms", "1", "--deadline-ms", "nan"], "deadline_ms: expected milliseconds above 0"),
        (["--sleep-ms", "1", "--deadline-ms", "0"], "deadline_ms: expected milliseconds above 0"),
        (["--fps", "0"], "expected a whole number of at least 1"),
        (["--model", "didanet-light"], "did you mean"),
    ],
)
def test_what_makes_no_sense_is_refused(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(["bench", "deadline", *words])
    assert status == 2
    assert text in capsys.readouterr().err
