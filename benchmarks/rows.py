"""From timed calls to the rows of a latency report, and the report as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allfocus.benchmarks.common import stats, table
from allfocus.benchmarks.contenders import Call, Contender, Frame
from allfocus.benchmarks.machine import summary
from allfocus.benchmarks.schema import LatencyReport, Memory, Quoted, Row, Stats
from allfocus.runtime.spec import Size


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A contender's calls, one a round, the picture of the last of them, and its memory."""

    contender: Contender
    calls: Sequence[Call]
    picture: Frame
    memory: Memory


def make_rows(measured: Sequence[Measured], size: Size) -> tuple[Row, ...]:
    """One row each; those of the runtime are compared with eager PyTorch on the same device."""
    return tuple(_row(one, _baseline(one, measured), size) for one in measured)


def _baseline(one: Measured, measured: Sequence[Measured]) -> Measured | None:
    if one.contender.role != "runtime":
        return None
    others = (m for m in measured if m.contender.role == "baseline")
    return next((m for m in others if m.contender.on_gpu == one.contender.on_gpu), None)


def _row(one: Measured, baseline: Measured | None, size: Size) -> Row:
    totals = [call.total for call in one.calls]
    total = stats(totals)
    pre, post = (stats([getattr(c, stage) for c in one.calls]) for stage in ("pre", "post"))
    return Row(
        name=one.contender.label,
        role=one.contender.role,
        precision=one.contender.precision,
        pre_ms=pre,
        infer_ms=stats([call.infer for call in one.calls]),
        post_ms=post,
        total_ms=total,
        samples_ms=tuple(totals),
        frames_per_second=1e3 / total.median,
        megapixels_per_second=size.width * size.height / 1e3 / total.median,
        pre_post_share=(pre.median + post.median) / total.median,
        memory=one.memory,
        speedup=None if baseline is None else speedup(one.calls, baseline.calls),
        max_difference=None if baseline is None else _difference(one, baseline),
    )


def speedup(calls: Sequence[Call], baseline: Sequence[Call]) -> Stats:
    """How many times faster than the baseline: the ratio in each round, then its statistics.

    What slows the machine for a while slows both calls of a round, and falls out of their ratio.
    """
    return stats([other.total / one.total for one, other in zip(calls, baseline, strict=True)])


def _difference(one: Measured, baseline: Measured) -> int | None:
    """Largest difference in levels of 255; None where the two have different weights."""
    if one.contender.weights_sha256 != baseline.contender.weights_sha256:
        return None
    return int(np.abs(one.picture.astype(np.int16) - baseline.picture).max())


def render(report: LatencyReport) -> str:
    """The report as text, for people."""
    lines = [
        f"{report.model} at {report.size} ({report.weights})",
        summary(report.machine),
        f"{report.repeats} rounds after {report.warmup} of warm-up, {report.threads} CPU threads",
        "",
        _times(report),
        "",
        _figures(report),
    ]
    if report.paper is not None:
        lines += ["", _quote(report.paper)]
    if report.skipped:
        lines += ["", *(_wrap(f"not measured: {n}: {why}") for n, why in report.skipped.items())]
    return "\n".join([*lines, "", *(_wrap(note) for note in report.notes)])


def _times(report: LatencyReport) -> str:
    head = ("milliseconds", "median", "p05", "p95", "MAD", "pre", "infer", "post", "pre+post")
    return table([head, *(_time_cells(row) for row in report.rows)])


def _time_cells(row: Row) -> tuple[str, ...]:
    total = row.total_ms
    times = (total.median, total.p05, total.p95, total.mad)
    stages = (row.pre_ms.median, row.infer_ms.median, row.post_ms.median)
    shown = (f"{ms:,.2f}" for ms in (*times, *stages))
    return (row.name, *shown, f"{100 * row.pre_post_share:.2f} %")


def _figures(report: LatencyReport) -> str:
    head = ("", "frames/s", "Mpixel/s", "peak MB", "GPU MB", "against eager", "p05-p95", "differs")
    return table([head, *(_figure_cells(row) for row in report.rows)])


def _figure_cells(row: Row) -> tuple[str, ...]:
    gain, gpu, levels = row.speedup, row.memory.gpu_bytes, row.max_difference
    return (
        row.name,
        f"{row.frames_per_second:,.3g}",
        f"{row.megapixels_per_second:,.3g}",
        f"{row.memory.rss_bytes / 1e6:,.0f}",
        "-" if gpu is None else f"{gpu / 1e6:,.0f}",
        "-" if gain is None else f"{gain.median:.2f} x",
        "-" if gain is None else f"{gain.p05:.2f}-{gain.p95:.2f}",
        "-" if levels is None else f"{levels}/255",
    )


def _quote(paper: Quoted) -> str:
    return _wrap(
        f"quoted, not measured: {paper.source} reports {paper.seconds * 1e3:.0f} ms for "
        f"{paper.size} on a {paper.hardware}"
    )


def _wrap(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="  ")
