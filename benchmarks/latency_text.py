"""A latency report as text, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from allfocus.benchmarks.common import table
from allfocus.benchmarks.machine import summary
from allfocus.benchmarks.marks import marks
from allfocus.benchmarks.schema import Clocks, LatencyReport, Quoted, Row


def render(report: LatencyReport) -> str:
    """The report as text, for people."""
    skip = "" if report.skip == "off" else f", skip {report.skip}"
    parts = [
        [
            f"{report.model} at {report.size}{skip} ({report.weights})",
            summary(report.machine),
            f"{report.repeats} rounds after {report.warmup} of warm-up, {report.threads} threads",
            f"clocks: {_clocks(report.clocks_before)} before, {_clocks(report.clocks_after)} after",
        ],
        [_times(report)],
        [_figures(report)],
        [_limits(report)],
        _rates(report),
        [] if report.paper is None else [_quote(report.paper)],
        marks(report),
        [f"not measured: {name}: {why}" for name, why in report.skipped.items()],
        report.notes,
    ]
    return "\n\n".join("\n".join(_wrapped(part)) for part in parts if part)


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


def _limits(report: LatencyReport) -> str:
    sizes = {row.beside.size for row in report.rows if row.beside is not None}
    other = "".join(sizes)  # one at most
    head = ["", "of matrix rate", "of copy rate", "GPU ms", "host overhead"]
    head += [f"{other}, ms", "time a pixel"] if other else []
    return table([head, *(_limit_cells(row, bool(other)) for row in report.rows)])


def _limit_cells(row: Row, other: bool) -> list[str]:
    cells = [
        row.name,
        _share(row.matrix_share),
        _share(row.copy_share),
        "-" if row.gpu_ms is None else f"{row.gpu_ms:,.2f}",
        _share(row.host_overhead),
    ]
    if not other:
        return cells
    if row.beside is None:
        return [*cells, "-", "-"]
    pixel = row.beside.per_pixel
    spread = f"{pixel.median:.2f} ({pixel.p05:.2f}-{pixel.p95:.2f})"
    return [*cells, f"{row.beside.total_ms.median:,.2f}", spread]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _rates(report: LatencyReport) -> list[str]:
    matrix = [
        f"matrix rate: {r.device} {r.precision}: {r.macs_per_second / 1e9:,.0f} GMAC/s ({r.by})"
        for r in report.rates.matrix
    ]
    copy = [
        f"copy rate: {r.device}: {r.bytes_per_second / 1e9:,.1f} GB/s ({r.by})"
        for r in report.rates.copy
    ]
    missing = [f"rate not measured: {n}: {why}" for n, why in report.rates.missing.items()]
    return matrix + copy + missing


def _clocks(found: Clocks) -> str:
    cpu = f"CPU {min(found.cpu_mhz)}-{max(found.cpu_mhz)} MHz" if found.cpu_mhz else "CPU unknown"
    gpus = (f"{c.gpu} {c.sm_mhz} MHz, memory {c.memory_mhz} MHz" for c in found.gpus)
    return ", ".join((cpu, *gpus))


def _quote(paper: Quoted) -> str:
    return (
        f"quoted, not measured: {paper.source} reports {paper.seconds * 1e3:.0f} ms for "
        f"{paper.size} on a {paper.hardware}"
    )


def _wrapped(lines: Iterable[str]) -> Iterable[str]:
    for line in lines:
        tabular = "\n" in line
        yield line if tabular else textwrap.fill(line, 100, subsequent_indent="  ")
