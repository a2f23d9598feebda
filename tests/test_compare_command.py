"""`allfocus bench compare` as people call it: its exit codes, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from result_parts import BY, LATENCY, MACHINE, NO_MAP, RESULTS, spread

from allfocus import cli
from allfocus.benchmarks.compare import CompareReport
from allfocus.benchmarks.compare_views import parse
from allfocus.benchmarks.schema import decode


def _write(folder: Path, name: str, data: object) -> str:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return str(path)


def _latency_data(*ratios: float, **changed: Any) -> dict[str, Any]:
    return {
        **LATENCY,
        "rows": [{"name": "a", "speedup": spread(ratios)}],
    } | changed


def test_the_command_tells_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = _write(tmp_path, "good.json", _latency_data(2.0, 2.1, 2.2))
    bad = _write(tmp_path, "bad.json", _latency_data(1.0, 1.1, 1.2))
    assert cli.main(["bench", "compare", good, good]) == 0
    assert "regressions: none" in capsys.readouterr().out
    assert cli.main(["bench", "compare", good, bad]) == 1
    said = capsys.readouterr().out
    assert "-47.6%" in said
    assert "regressions: a: speed of eager PyTorch" in said
    assert cli.main(["bench", "compare", good, bad, "--tolerance", "50%"]) == 0
    capsys.readouterr()
    out = tmp_path / "out.json"
    assert cli.main(["bench", "compare", good, bad, "--json", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert out.read_text(encoding="utf-8") == printed
    report = decode(CompareReport, printed)
    assert report.regressions == ("a: speed of eager PyTorch",)
    assert report.rows[0].change == pytest.approx(1.1 / 2.1 - 1)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (_latency_data(1, 2, 3, model="didanet"), "model 'didanet-lite' and 'didanet'"),
        (_latency_data(1, 2, 3, size="8x8"), "size '600x400' and '8x8'"),
        (_latency_data(1, 2, 3, threads=4), "threads '2' and '4'"),
        (_latency_data(1, 2, 3, skip="auto"), "skip 'off' and 'auto'"),
        (
            _latency_data(1, 2, 3, schema="allfocus/latency/9"),
            "its schema is 'allfocus/latency/9'; can be",
        ),
        (_latency_data(1, 2, 3, rows=[{"name": "a", "speedup": None}]), "with --baseline eager"),
        (_latency_data(1, 2, 3, rows=[{"name": "a"}]), r"rows[0]: missing keys ['speedup']"),
        (
            _latency_data(1, 2, 3, rows=[{"name": "b", "speedup": spread([1, 2, 3])}]),
            "nothing in common",
        ),
        (_latency_data(1, 2, 3, rows=2 * _latency_data(1, 2, 3)["rows"]), "stands in it twice"),
        ({"schema": "allfocus/flops/1"}, "its schema is 'allfocus/flops/1'"),
        ([1, 2], "its schema is None"),
        ("{", "not JSON"),
        (json.loads((RESULTS / "trust-epyc-2core.json").read_text()), "results of one benchmark"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "data",
)
def test_what_cannot_be_compared_is_wrong_use(
    other: object, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _write(tmp_path, "old.json", _latency_data(1, 2, 3))
    new = _write(tmp_path, "new.json", other)
    assert cli.main(["bench", "compare", old, new]) == 2
    assert says in capsys.readouterr().err


DISCS: dict[str, Any] = {
    "schema": "allfocus/discs/1",
    "machine": MACHINE,
    "photos": ["a"],
    "size": "9x9",
    "shot_noise": 0.1,
    "read_noise": 0.1,
    "radii": [0.0, 2.0],
    "rows": [{"name": "m", "kind": "model", "psnr_db": [40.0, 30.0]} | BY],
}
RATIOS: dict[str, Any] = {
    "schema": "allfocus/ratios/1",
    "machine": MACHINE,
    "model": "didanet-lite",
    "size": "160x112",
    "rows": [{"name": "a", "ratio": spread([1, 2, 3])}],
    "counts": {"calls": 100},
}


def _ratio(**changed: float) -> dict[str, Any]:
    return RATIOS | {"rows": [{"name": "a", "ratio": spread([1, 2, 3]) | changed}]}


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (DISCS, DISCS | {"radii": [0.0, 2.0, 4.0]}, "m: expected 3 of psnr_db, one for each of"),
        (DISCS, DISCS | {"read_noise": 10**400}, "read_noise: expected float, got 1000000000"),
        (RATIOS, RATIOS | {"counts": {"calls": 10**400}}, "counts.calls: expected float, got 100"),
        (RATIOS, RATIOS | {"counts": {"calls": -1}}, "calls: expected 0 or more, got -1"),
        (RATIOS, _ratio(p05=2.5), "rows[0].ratio: expected p05 <= median <= p95 and mad >= 0"),
        (RATIOS, _ratio(p95=1.5), "rows[0].ratio: expected p05 <= median <= p95 and mad >= 0"),
        (RATIOS, _ratio(mad=-0.1), "rows[0].ratio: expected p05 <= median <= p95 and mad >= 0"),
        (RATIOS, _ratio(p05=0.0), "a: expected ratios above 0, got a p05 of 0"),
        (RATIOS, _ratio(median=-2.0, p05=-3.0, p95=-1.0), "a: expected ratios above 0"),
        (
            _ratio(median=1e300, p95=1e301),
            _ratio(median=1e-300, p05=1e-301),
            "a: expected figures that can be compared, got 1e+300 and 1e-300",
        ),
        (RATIOS, RATIOS | {"rows": [], "counts": {"a": 1}}, "a: a figure of another kind"),
        (RATIOS, "[" * 100_000, "not JSON (lists or objects within one another"),
        (RATIOS, '{"schema": ' + "1" * 5000, "not JSON (Exceeds the limit"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "data",
)
def test_what_no_benchmark_writes_is_wrong_use_and_no_regression(
    good: object, bad: object, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = _write(tmp_path, "good.json", good), _write(tmp_path, "bad.json", bad)
    assert cli.main(["bench", "compare", *files]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err


def test_a_percentile_may_be_rounded_past_the_median() -> None:
    ratios = {"median": 0.1, "p05": math.nextafter(0.1, 1), "p95": math.nextafter(0.1, 0), "mad": 0}
    rows = [{"name": "a", "ratio": ratios}]
    assert set(parse(json.dumps(RATIOS | {"rows": rows})).figures) == {"a", "calls"}


def test_a_file_that_is_not_there_is_wrong_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        *(["--tolerance", "much"], ["--tolerance", "-1"], ["--tolerance", "nan"]),
        *(["--tolerance", "1"], ["--tolerance", "100%"], ["--tolerance", "inf"]),
        *(["--max-loss", "x"], ["--max-loss", "-1dB"], ["--max-loss", "inf"]),
    ],
)
def test_limits_that_mean_nothing_are_wrong_use(options: list[str]) -> None:
    assert cli.main(["bench", "compare", "a", "b", *options]) == 2


@pytest.mark.parametrize(
    ("given", "meant"),
    [("10", "; did you mean 10%?"), ("1", "; did you mean 1%?"), ("100%", ""), ("150", "")],
)
def test_a_tolerance_under_which_nothing_would_be_slower_is_refused(
    given: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = _write(tmp_path, "good.json", _latency_data(2.0, 2.1, 2.2))
    bad = _write(tmp_path, "bad.json", _latency_data(0.02, 0.021, 0.022))
    assert cli.main(["bench", "compare", good, bad, "--tolerance", given]) == 2
    told = capsys.readouterr().err
    assert f"expected a share of less than 1, such as 0.1 or 10%, got '{given}'{meant}\n" in told
    assert cli.main(["bench", "compare", good, bad, "--tolerance", "99%"]) == 0  # -99% exactly
    assert cli.main(["bench", "compare", good, bad, "--tolerance", "98%"]) == 1


def test_amounts_are_read_with_and_without_their_units(tmp_path: Path) -> None:
    same = {"data": "d", "pictures": 1, "pixels": 1, "output": "8 bits", "machine": MACHINE}
    files = [
        _write(
            tmp_path,
            f"{psnr}.json",
            same
            | {
                "schema": "allfocus/quality/1",
                "rows": [
                    {"name": "a", "kind": "model", "similarity": {"psnr_db": psnr, "ssim": 0.8}}
                    | NO_MAP
                ],
            },
        )
        for psnr in (30.0, 29.9)
    ]
    found = [
        cli.main(["bench", "compare", *files, *options])
        for options in ([], ["--max-loss", "0.2dB"], ["--max-loss", "0.2"])
    ]
    assert found == [1, 0, 0]
