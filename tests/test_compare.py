"""Results of benchmarks compared: what is a regression, and what is noise."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from result_parts import BY, LATENCY, MACHINE, NO_MAP, RESULTS, spread

from allfocus.benchmarks.common import stats
from allfocus.benchmarks.compare import Limits, compare
from allfocus.benchmarks.compare_figures import Result
from allfocus.benchmarks.compare_views import parse
from allfocus.runtime.errors import ArtefactError, UsageError

COMPARED = ("latency", "tiles", "stream", "quality", "discs", "trust", "ratios", "trade")


def latency(rows: dict[str, Sequence[float]], **changed: Any) -> Result:
    """A latency result with so many times eager PyTorch's speed, round by round."""
    data = {
        **LATENCY,
        "rows": [
            {"name": "eager", "speedup": None},
            *({"name": name, "speedup": spread(gains)} for name, gains in rows.items()),
        ],
    }
    return parse(json.dumps(data | changed))


def scores(schema: str, rows: list[dict[str, Any]], **others: Any) -> Result:
    return parse(json.dumps({"schema": schema, "machine": MACHINE, "rows": rows} | others))


SIMPLE: dict[str, Any] = {"kind": "model", "similarity": {"psnr_db": 30.0, "ssim": 0.8}}
SAME: dict[str, Any] = {"data": "synthetic", "pictures": 20, "pixels": 1, "output": "8 bits"}
SAME |= {"map_radius": 8.0, "skip": "auto", "ensemble": 1, "reach": None}


def quality(**decibels: float) -> Result:
    rows = [
        {"name": name, **SIMPLE, "similarity": {"psnr_db": value, "ssim": 0.8}} | NO_MAP
        for name, value in decibels.items()
    ]
    return scores("allfocus/quality/2", rows, **SAME)


gains = st.lists(st.floats(0.1, 100), min_size=3, max_size=9)
fields = st.dictionaries(st.sampled_from("abcdef"), gains, min_size=1)


def apart(samples: Sequence[float]) -> bool:
    found = stats(samples)
    return found.p05 < found.p95


@given(fields, st.floats(0, 0.5))
def test_a_file_compared_with_itself_is_no_regression(
    rows: dict[str, list[float]], tolerance: float
) -> None:
    result = latency(rows)
    report = compare(result, result, Limits(tolerance=tolerance, max_loss=0.0, complete=True))
    assert not report.regressions
    assert {row.verdict for row in report.rows} <= {"within", "unknown"}
    assert all(row.change == 0 for row in report.rows)


@given(gains, st.randoms(use_true_random=False), st.integers(3, 30))
def test_noise_within_the_spread_is_no_regression(
    before: list[float], chance: random.Random, count: int
) -> None:
    low, high = stats(before).p05, stats(before).p95
    after = [chance.uniform(low, high) for _ in range(count)]
    for old, new in ((before, after), (after, before)):
        assert not compare(latency({"a": old}), latency({"a": new}), Limits()).regressions


@given(fields, st.randoms(use_true_random=False), st.floats(1.01, 5))
def test_what_is_slower_by_more_than_both_is_found_in_any_order(
    rows: dict[str, list[float]], chance: random.Random, beyond: float
) -> None:
    slow = chance.choice(sorted(rows))
    assume(apart(rows[slow]))
    # As much slower as the tolerance and the spread are wide, and more.
    factor = beyond / 0.9 * stats(rows[slow]).p95 / stats(rows[slow]).p05
    after = list({**rows, slow: [gain / factor for gain in rows[slow]]}.items())
    chance.shuffle(after)
    report = compare(latency(rows), latency(dict(after)), Limits())
    assert report.regressions == (f"{slow}: speed of eager PyTorch",)
    back = compare(latency(dict(after)), latency(rows), Limits())
    assert not back.regressions
    verdicts = {row.name: row.verdict for row in back.rows}
    assert verdicts[f"{slow}: speed of eager PyTorch"] == "better"


@given(gains, st.floats(0.0, 0.099))
def test_what_is_slower_by_less_than_the_tolerance_is_no_regression(
    before: list[float], loss: float
) -> None:
    after = [gain * (1 - loss) for gain in before]
    assert not compare(latency({"a": before}), latency({"a": after}), Limits()).regressions


@given(st.floats(0.1, 100), st.floats(0.01, 1))
def test_one_round_has_no_spread_and_says_nothing(gain: float, factor: float) -> None:
    report = compare(latency({"a": [gain]}), latency({"a": [gain * factor]}), Limits())
    assert [row.verdict for row in report.rows] == ["unknown"]
    assert not report.regressions


@given(st.floats(10, 40), st.floats(-5, 5), st.floats(0, 2))
def test_decibels_are_lost_beyond_the_limit_alone(psnr: float, change: float, limit: float) -> None:
    assume(abs(change + limit) > 1e-6)
    report = compare(quality(a=psnr), quality(a=psnr + change), Limits(max_loss=limit))
    assert bool(report.regressions) == (change < -limit)


def test_all_that_is_judged_of_quality_is_compared_by_a_limit_of_its_own() -> None:
    def judged(loss: float, **changed: float) -> Result:
        """All figures, `loss` times their limits worse."""
        row: dict[str, Any] = {"name": "m", "kind": "model", **BY}
        row["similarity"] = {"psnr_db": 30.0, "ssim": 0.8 - 0.002 * loss}
        row["bands"] = [{"unchanged_db": 42.0 - 0.5 * loss}, {"unchanged_db": None}]
        row["map"] = {"mae": 0.1 + 0.005 * loss}
        wider = [{"under_px": px, "f_max": 0.8 - 0.01 * loss} for px in (2.0, 4.0)]
        focus = {"f_max": 0.6 - 0.01 * loss, "mae": 0.2 + 0.005 * loss}
        row["detection"] = focus | {"wider": wider}
        return scores("allfocus/quality/2", [row], **(SAME | changed))

    loose = Limits(max_loss=1.0)  # decibels of PSNR: of no account here
    assert not compare(judged(0), judged(0.9), loose).regressions
    assert not compare(judged(1.1), judged(0), loose).regressions
    assert compare(judged(0), judged(1.1), loose).regressions == (
        *("m: SSIM", "m: in focus, to input", "m: 1 - map MAE"),
        *("m: F_max", "m: 1 - focus MAE", "m: F_max, 2 px", "m: F_max, 4 px"),
    )
    with pytest.raises(UsageError, match=r"map_radius '8.0' and '16.0'"):
        compare(judged(0), judged(0, map_radius=16.0), loose)


def test_the_input_is_judged_by_nothing() -> None:
    row: dict[str, Any] = {"kind": "input", "similarity": {"psnr_db": 27.0, "ssim": 0.8}}
    row |= NO_MAP | {"bands": [{"unchanged_db": 99.0}]}
    net = {"name": "m"} | SIMPLE | NO_MAP
    found = scores("allfocus/quality/2", [row | {"name": "input"}, net], **SAME)
    assert set(found.figures) == {"m: PSNR", "m: SSIM"}


def test_how_a_row_was_computed_may_differ_and_is_told() -> None:
    def made(**way: str | None) -> Result:
        rows = [{"name": name} | SIMPLE | NO_MAP for name in "ab"]
        return scores("allfocus/quality/2", [rows[0] | way, rows[1]], **SAME)

    assert compare(made(), made(), Limits()).notes == ()
    other = made(backend=None, precision="int8", weights_sha256="cd" * 32)
    assert compare(made(), other, Limits()).notes == (
        "a was not computed alike: backend cpu and none, precision fp32 and int8, weights_sha256 "
        "abababababab and cdcdcdcdcdcd",
    )
    only_b = scores("allfocus/quality/2", [{"name": "b"} | SIMPLE | NO_MAP], **SAME)
    assert compare(other, only_b, Limits()).notes == ()


def test_discs_are_compared_at_each_radius() -> None:
    def discs(*decibels: float, radii: Sequence[float] = (0, 2)) -> Result:
        rows = [
            {"name": "input", "kind": "input", "psnr_db": [1.0] * len(radii), **BY},
            {"name": "m", "kind": "model", "psnr_db": decibels, **BY},
        ]
        same = {"photos": ["a"], "size": "9x9", "shot_noise": 0.1, "read_noise": 0.1}
        return scores("allfocus/discs/1", rows, radii=radii, **same)

    assert set(discs(40, 30).figures) == {"m at 0 px: PSNR", "m at 2 px: PSNR"}
    assert compare(discs(40, 30), discs(39, 30), Limits()).regressions == ("m at 0 px: PSNR",)
    with pytest.raises(UsageError, match="radii"):
        compare(discs(40, 30), discs(40, 30, radii=(0, 3)), Limits())
    for decibels in ((40,), (40, 30, 20)):
        with pytest.raises(ArtefactError, match="m: expected 2 of psnr_db, one for each of radii"):
            discs(*decibels)


def test_what_is_counted_needs_no_spread() -> None:
    def counted(value: float) -> Result:
        same = {"model": "didanet-lite", "size": "160x112"}
        return scores("allfocus/ratios/1", [], counts={"calls": value}, **same)

    assert not compare(counted(100), counted(124), Limits()).regressions
    assert compare(counted(100), counted(126), Limits()).regressions == ("calls",)
    assert not compare(counted(100), counted(0), Limits()).regressions
    assert not compare(counted(0), counted(0), Limits()).regressions
    assert compare(counted(0), counted(1), Limits()).regressions == ("calls",)


def test_time_over_time_is_better_where_it_is_less() -> None:
    def tiles(*ratios: float, precision: str = "fp32") -> Result:
        row = {"size": "9x9", "memory": "1GiB"}
        rows = [
            {"name": "at once", "ratio": spread([1.0]), **row},
            {"name": "tiles", "ratio": spread(ratios), **row},
        ]
        if precision == "of old":
            return scores("allfocus/tiles/1", rows, model="m", blurred=0.3)
        way = {"backend": "onnxruntime", "precision": precision}
        return scores("allfocus/tiles/2", rows, model="m", blurred=0.3, **way)

    quick, slow = tiles(1.0, 1.05, 1.1), tiles(1.5, 1.6, 1.7)
    assert compare(quick, slow, Limits()).regressions == ("tiles, 9x9, 1GiB: time of at once",)
    assert not compare(slow, quick, Limits()).regressions
    with pytest.raises(UsageError, match="precision 'fp32' and 'int8'"):
        compare(quick, tiles(1.0, precision="int8"), Limits())
    former = tiles(1.5, 1.6, 1.7, precision="of old")  # in float32, without saying so
    assert not compare(former, quick, Limits()).regressions
    with pytest.raises(UsageError, match="precision 'fp32' and 'int8'"):
        compare(former, tiles(1.0, precision="int8"), Limits())


def test_a_trade_is_compared_by_speed_and_by_decibels() -> None:
    def trade(psnr: float, *gains: float) -> Result:
        row = {
            "model": "m",
            "engine": "E",
            "precision": "int8",
            "passes": 1,
            "reach": None,
            "psnr_db": psnr,
        }
        eager = row | {"psnr_db": None, "times_as_fast": spread([1.0])}
        rows = [eager, row | {"times_as_fast": spread(gains)}]
        return scores("allfocus/trade/3", rows, size="600x400", threads=2)

    old = trade(28.7, 60, 65, 70)
    name = "m, E, int8, 1 passes"
    assert set(old.figures) == {f"{name}: speed of eager PyTorch", f"{name}: PSNR"}
    assert not compare(old, trade(28.66, 61, 64, 69), Limits()).regressions
    worse = compare(old, trade(28.6, 20, 25, 30), Limits()).regressions
    assert worse == (f"{name}: speed of eager PyTorch", f"{name}: PSNR")


def test_what_is_gone_counts_where_the_new_one_must_be_complete() -> None:
    old, new = latency({"a": [1, 2, 3], "b": [1, 2, 3]}), latency({"a": [1, 2, 3], "c": [1, 2, 3]})
    report = compare(old, new, Limits())
    assert [row.verdict for row in report.rows] == ["within", "gone", "new"]
    assert not report.regressions
    assert compare(old, new, Limits(complete=True)).regressions == ("b: speed of eager PyTorch",)


def test_another_machine_is_told_of() -> None:
    other = {"machine": {"cpu": "another", "cores": 4}}
    report = compare(latency({"a": [1, 2, 3]}), latency({"a": [1, 2, 3]}, **other), Limits())
    assert "a CPU, 2 cores and on another, 4 cores" in report.notes[0]


@pytest.mark.parametrize("kind", COMPARED)
def test_results_of_this_project_can_be_compared(kind: str) -> None:
    files = sorted(RESULTS.glob(f"{kind}-*.json"))
    assert files
    for file in files:
        result = parse(file.read_text(encoding="utf-8"))
        assert result.figures
        assert not compare(result, result, Limits(max_loss=0.0)).regressions
