"""`allfocus bench compare OLD.json NEW.json`: has something become slower, or worse?

Compared are ratios that were measured within one run, never milliseconds of two. A ratio is worse
only where its median is so by more than the tolerance and the spreads, 5th to 95th percentile over
the rounds, do not overlap. Quality is worse where more than `--max-loss` of it is lost.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from allfocus.benchmarks import compare_views as views
from allfocus.benchmarks.common import deliver, table
from allfocus.benchmarks.compare_figures import Count, Figure, Ratio, Result, Score
from allfocus.benchmarks.schema import Stats
from allfocus.runtime.command import DONE, FAILED, script
from allfocus.runtime.errors import UsageError

COMPARE: Literal["allfocus/compare/1"] = "allfocus/compare/1"
TOLERANCE = 0.10  # of a ratio

# "within": too little, or within the spreads; "unknown": of one round, which has no spread.
Verdict = Literal["worse", "better", "within", "unknown", "gone", "new"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of both files; null in that which does not have it.

    `change` is positive where it got better: of a ratio the share by which it got faster, of a
    count that by which it is less, of a score in its own unit.
    """

    name: str
    old: Stats | None
    new: Stats | None
    change: float | None
    unit: str  # of `change`: "%" for a share, "dB", or none
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class CompareReport:
    """What the command found."""

    schema: Literal["allfocus/compare/1"]
    compared: str  # the schema of both files
    tolerance: float  # of ratios
    max_loss: float | None  # of scores; null: each kind's own
    complete: bool  # whether what is gone counts as a regression
    rows: tuple[Row, ...]
    regressions: tuple[str, ...]  # names of the rows that are
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What counts as worse."""

    tolerance: float = TOLERANCE
    max_loss: float | None = None
    complete: bool = False


def compare(old: Result, new: Result, limits: Limits) -> CompareReport:
    """Hold `new` against `old`; raises UsageError where both were not measured alike."""
    _check_alike(old, new)
    names = list(dict.fromkeys((*old.figures, *new.figures)))
    rows = tuple(_row(n, old.figures.get(n), new.figures.get(n), limits) for n in names)
    bad = ("worse", "gone") if limits.complete else ("worse",)
    return CompareReport(
        schema=COMPARE,
        compared=new.schema,
        tolerance=limits.tolerance,
        max_loss=limits.max_loss,
        complete=limits.complete,
        rows=rows,
        regressions=tuple(row.name for row in rows if row.verdict in bad),
        notes=tuple(_notes(old, new)),
    )


def _notes(old: Result, new: Result) -> Iterator[str]:
    """What differs, and is no reason not to compare: a change of it may be what is judged."""
    if old.cpu != new.cpu:
        yield f"measured on {old.cpu} and on {new.cpu}: ratios too differ from machine to machine"
    for name, before in old.ways.items():
        after = new.ways.get(name, before)
        differ = [
            f"{key} {_brief(before[key])} and {_brief(after[key])}"
            for key in before
            if before[key] != after[key]
        ]
        if differ:
            yield f"{name} was not computed alike: {', '.join(differ)}"


def _brief(value: str | None) -> str:
    """As much of a checksum as tells it from others."""
    return "none" if value is None else value[:12]


def _check_alike(old: Result, new: Result) -> None:
    kinds = [result.schema.rpartition("/")[0] for result in (old, new)]
    if kinds[0] != kinds[1]:
        raise UsageError(f"expected two results of one benchmark, got {old.schema}, {new.schema}")
    differ = [
        f"{key} {old.same[key]!r} and {new.same[key]!r}"
        for key in old.same
        if key in new.same and old.same[key] != new.same[key]
    ]
    if differ:
        raise UsageError(
            f"expected the same in both, got {'; '.join(differ)}: measure again with the options "
            "of the first"
        )
    if not set(old.figures) & set(new.figures):
        raise UsageError(
            f"the two have nothing in common: {', '.join(old.figures)}; {', '.join(new.figures)}"
        )


def _row(name: str, old: Figure | None, new: Figure | None, limits: Limits) -> Row:
    if old is None or new is None:
        return Row(
            name=name,
            old=_stats(old),
            new=_stats(new),
            change=None,
            unit="",
            verdict="new" if old is None else "gone",
        )
    if type(old) is not type(new):
        raise UsageError(f"{name}: a figure of another kind in the second; measure again")
    change, unit, verdict = _judge(old, new, limits)
    if not math.isfinite(change):
        raise UsageError(
            f"{name}: expected figures that can be compared, got {_shown(_stats(old))[0]} and "
            f"{_shown(_stats(new))[0]}; measure again"
        )
    return Row(
        name=name, old=_stats(old), new=_stats(new), change=change, unit=unit, verdict=verdict
    )


def _judge(old: Figure, new: Figure, limits: Limits) -> tuple[float, str, Verdict]:
    """By how much it got better, in which unit, and whether that counts."""
    if isinstance(old, Ratio) and isinstance(new, Ratio):
        change = _gain(old.stats.median, new.stats.median, old.better == "lower")
        apart = old.stats.p95 < new.stats.p05 or new.stats.p95 < old.stats.p05
        if not (old.judged and new.judged):
            return change, "%", "unknown"
        return change, "%", _verdict(change, limits.tolerance) if apart else "within"
    if isinstance(old, Count) and isinstance(new, Count):
        change = 1 - new.value / old.value if old.value else -float(new.value > 0)
        return change, "%", _verdict(change, new.may_grow)
    assert isinstance(old, Score)
    assert isinstance(new, Score)
    change = new.value - old.value
    may_lose = new.may_lose if limits.max_loss is None or not new.main else limits.max_loss
    return change, new.unit, _verdict(change, may_lose)


def _gain(old: float, new: float, lower: bool) -> float:
    """By which share of time or speed `new` is better: 1.0 is twice as good, -0.5 half."""
    before, after = (new, old) if lower else (old, new)
    if before == after:
        return 0.0
    return after / before - 1 if before else math.inf


def _verdict(change: float, limit: float) -> Verdict:
    if change < -limit:
        return "worse"
    return "better" if change > limit else "within"


def _stats(figure: Figure | None) -> Stats | None:
    if figure is None:
        return None
    if isinstance(figure, Ratio):
        return figure.stats
    return Stats(median=figure.value, p05=figure.value, p95=figure.value, mad=0.0)


def text(report: CompareReport) -> str:
    """For a terminal."""
    head = ("", "old", "p05-p95", "new", "p05-p95", "better by", "")
    cells = [head, *(_cells(row) for row in report.rows)]
    counts = Counter(row.verdict for row in report.rows)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    found = "; ".join(report.regressions) or "none"
    loss = "each kind's own" if report.max_loss is None else f"{report.max_loss:g}"
    lines = [
        f"{told}. Tolerance {report.tolerance:.0%} of a ratio, and spreads that do not overlap; of "
        f"a score {loss}",
        *report.notes,
        f"regressions: {found}",
    ]
    return "\n".join([table(cells), "", *lines])


def _cells(row: Row) -> tuple[str, ...]:
    change = "-"
    if row.change is not None:
        change = f"{row.change:+.1%}" if row.unit == "%" else f"{row.change:+.3f} {row.unit}"
    return (row.name, *_shown(row.old), *_shown(row.new), change.strip(), row.verdict)


def _shown(stats: Stats | None) -> tuple[str, str]:
    if stats is None:
        return "-", "-"
    spread = "-" if stats.p05 == stats.p95 else f"{stats.p05:.3g}-{stats.p95:.3g}"
    return f"{stats.median:.4g}", spread


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench compare`."""
    add = parser.add_argument
    add("old", type=Path, metavar="OLD.json", help="a result of a benchmark")
    add("new", type=Path, metavar="NEW.json", help="a later one, measured alike")
    add(
        "--tolerance",
        type=_share,
        default=TOLERANCE,
        metavar="SHARE",
        help="by which a ratio may be worse: 0.1 or 10%% (10%%)",
    )
    add(
        "--max-loss",
        type=_decibels,
        metavar="AMOUNT",
        help="of PSNR or AUC; the defaults are 0.05dB and 0.01. What else is judged has always its "
        "own: F_max 0.01, the errors of map and focus 0.005, SSIM 0.002, what is in focus 0.5 dB",
    )
    add("--complete", action="store_true", help="what NEW lacks is a regression too")
    add("--json", action="store_true", help="print the result as one JSON object")
    add("--out", type=Path, metavar="FILE", help="also write the JSON to FILE")


def _share(value: str) -> float:
    """An argparse type: a share of less than 1, by more than which nothing can be slower."""
    try:
        number = float(value[:-1]) / 100 if value.endswith("%") else float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1:
        meant = f"; did you mean {value}%?" if 1 <= number < 100 and value[-1] != "%" else ""
        raise argparse.ArgumentTypeError(
            f"expected a share of less than 1, such as 0.1 or 10%, got {value!r}{meant}"
        )
    return number


def _decibels(value: str) -> float:
    try:
        number = float(value.removesuffix("dB"))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected an amount such as 0.05dB, got {value!r}")
    return number


def run(args: argparse.Namespace) -> int:
    """Compare and print; 1 where something is worse, 2 where the files cannot be compared."""
    limits = Limits(tolerance=args.tolerance, max_loss=args.max_loss, complete=args.complete)
    report = compare(views.read(args.old), views.read(args.new), limits)
    deliver(report, text(report), args)
    return FAILED if report.regressions else DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m allfocus.benchmarks.compare`."""
    return script("allfocus bench compare", __doc__ or "", add_arguments, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
