"""A latency report as a bar chart: medians, their spread, every call, and the paper's figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allfocus.benchmarks.schema import LatencyReport, Quoted, Row
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.files import publish

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RUNTIME, _BASELINE, _INK, _FAINT = "#2a6f97", "#a9b4bd", "#1d2730", "#5c6973"
_LOG_FROM = 30  # slowest / fastest from which a linear axis would hide the fastest
_CHARACTER = 0.0078  # of a name, in widths of the figure
_LEGEND = "{}: median   whiskers: 5th to 95th percentile   small dots: single calls"


def check(path: Path) -> None:
    """Raise where a chart at `path` could not be drawn, before anything is measured for it."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"--chart {path}: expected a name that ends in .png")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise AllfocusError(
            f'--chart needs matplotlib ({error}): pip install "allfocus[bench]"'
        ) from error


def draw(report: LatencyReport, path: Path) -> None:
    """Write the chart of `report` as a PNG of 1600 pixels width; raises as `check` does."""
    check(path)
    figure = make_figure(report)
    with publish(path) as temporary:
        figure.savefig(temporary, format="png")


def make_figure(report: LatencyReport) -> Figure:
    """The chart of `report`, fastest first; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = sorted(report.rows, key=lambda row: row.total_ms.median)
    height = 2.0 + 0.75 * len(rows)  # inches
    figure = Figure(figsize=(10, height), dpi=160, facecolor="white")
    FigureCanvasAgg(figure)
    left = max(0.235, 0.02 + _CHARACTER * max(len(row.name) for row in rows))
    axes = figure.add_axes((left, 0.95 / height, 0.97 - left, (height - 2.0) / height))
    medians = [row.total_ms.median for row in rows]
    log = medians[-1] / medians[0] > _LOG_FROM
    for place, row in enumerate(rows):
        _mark(axes, place, row, log)
        _label(axes, place, row)
    _style(axes, rows, report.paper, log)
    if report.paper is not None:
        _reference(axes, report.paper)
    _captions(figure, report, height, "large dot" if log else "bar")
    return figure


def _mark(axes: Axes, place: int, row: Row, log: bool) -> None:
    """Median, spread and single calls; a dot instead of a bar on an axis that has no zero."""
    total = row.total_ms
    color = _RUNTIME if row.role == "runtime" else _BASELINE
    if log:
        axes.plot(total.median, place, "o", color=color, markersize=11, zorder=2)
    else:
        axes.barh(place, total.median, height=0.56, color=color, zorder=2)
    axes.hlines(place, total.p05, total.p95, color=_INK, linewidth=1.6, zorder=4)
    axes.vlines((total.p05, total.p95), place - 0.12, place + 0.12, color=_INK, lw=1.6, zorder=4)
    dots = [place + 0.2] * len(row.samples_ms)
    axes.plot(row.samples_ms, dots, ".", color=_INK, alpha=0.6, markersize=5, zorder=3, mew=0)


def _label(axes: Axes, place: int, row: Row) -> None:
    text = f"{_number(row.total_ms.median)} ms"
    if row.speedup is not None:
        gain = row.speedup
        text += f"\n{gain.median:.2f}× as fast as eager ({gain.p05:.2f}–{gain.p95:.2f})"
    axes.annotate(
        text,
        (max(row.samples_ms), place),
        xytext=(10, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        color=_INK,
        linespacing=1.35,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        zorder=5,
    )


def _style(axes: Axes, rows: list[Row], paper: Quoted | None, log: bool) -> None:
    values = [value for row in rows for value in row.samples_ms]
    values += [paper.seconds * 1e3] if paper is not None else []
    if log:
        axes.set_xscale("log")
        axes.set_xlim(min(values) / 2, max(values) * (max(values) / min(values)) ** 0.7)
    else:
        axes.set_xlim(0, max(values) * 1.5)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=10, color=_INK)
    scale = ", logarithmic scale" if log else ""
    axes.set_xlabel(f"milliseconds per frame, the whole call{scale}", fontsize=9, color=_FAINT)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: _number(value))
    axes.tick_params(axis="x", labelsize=9, colors=_FAINT, length=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e3e7ea", linewidth=0.8, zorder=0)
    axes.spines[:].set_visible(False)


def _reference(axes: Axes, paper: Quoted) -> None:
    milliseconds = paper.seconds * 1e3
    left = axes.transAxes.inverted().transform(axes.transData.transform((milliseconds, 0)))[0] < 0.5
    axes.axvline(milliseconds, color="#c4562f", linestyle=(0, (4, 3)), linewidth=1.4, zorder=3)
    axes.annotate(
        f"{_number(milliseconds)} ms on a {paper.hardware}, quoted from the paper",
        (milliseconds, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="left" if left else "right",
        va="bottom",
        fontsize=8.5,
        color="#c4562f",
    )


def _captions(figure: Figure, report: LatencyReport, height: float, median: str) -> None:
    machine = report.machine
    cpu = f"{machine.cpu}, {report.threads} threads"
    device = ", ".join([cpu, *(gpu.name for gpu in machine.gpus)])
    title = f"{report.model}: one frame of {report.size}"
    figure.text(0.02, 1 - 0.34 / height, title, fontsize=13, fontweight="bold", color=_INK)
    load = "" if machine.load_start is None else f", load average {machine.load_start}"
    context = f"{device}; {report.repeats} interleaved rounds{load}"
    figure.text(0.02, 1 - 0.60 / height, context, fontsize=9, color=_FAINT)
    figure.text(0.02, 0.18 / height, _LEGEND.format(median), fontsize=8.5, color=_FAINT)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
