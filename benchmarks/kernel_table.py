"""A report of `bench kernels` as text."""

from __future__ import annotations

import textwrap

from allfocus.benchmarks.common import table
from allfocus.benchmarks.kernel_schema import KernelReport, KernelRow
from allfocus.benchmarks.machine import summary

_HEAD = (
    *("operation", "direction", "type", "contender"),
    *("ms", "p05", "p95", "limit ms", "bound", "share", "against reference", "extra MB", "error"),
)


def render(report: KernelReport) -> str:
    """The report as text, for people."""
    rates = report.rates
    lines = [
        f"operations at {report.size} on {report.device}: {report.device_name}",
        summary(report.machine),
        f"{rates.bytes_per_second / 1e9:,.1f} GB/s: {rates.bandwidth_by}",
        f"{rates.fma_per_second / 1e9:,.1f} GFMA/s: {rates.fma_by}",
        "",
        table([_HEAD, *map(_cells, report.rows)], left=4),
        "",
        *(_wrap(f"not measured: {name}: {why}") for name, why in report.skipped.items()),
        *map(_wrap, report.notes),
    ]
    return "\n".join(lines)


def _cells(row: KernelRow) -> tuple[str, ...]:
    times = (row.time_ms.median, row.time_ms.p05, row.time_ms.p95, row.work.limit_ms)
    return (
        *(row.op, row.direction, row.precision, row.contender),
        *(f"{ms:,.4g}" for ms in times),
        row.work.bound,
        f"{100 * row.roofline_share:.1f} %",
        "-" if row.speedup is None else f"{row.speedup.median:.2f} x",
        "-" if row.extra_bytes is None else f"{row.extra_bytes / 1e6:,.2f}",
        f"{row.error:.1e}",
    )


def _wrap(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="  ")
