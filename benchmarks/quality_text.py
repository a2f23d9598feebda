"""A quality report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from allfocus.benchmarks.machine import summary
from allfocus.benchmarks.quality_schema import (
    Detection,
    QualityReport,
    QualityRow,
    RadiusBand,
    Similarity,
)

_NONE = "–"
Column = tuple[str, list[str]]  # heading, one cell a row


def render(report: QualityReport, by_radius: bool) -> str:
    """The report's tables and notes."""
    size = f"{report.pictures} pictures, {report.pixels / 1e6:.2f} megapixels"
    parts = [f"{report.data}: {size}; output as {report.output}", *tables(report, by_radius)]
    notes = (*report.notes, *_weights(report.rows), summary(report.machine))
    parts += ["\n".join(f"- {note}" for note in notes)]
    return "\n\n".join(parts)


def _weights(rows: Sequence[QualityRow]) -> list[str]:
    """Of which weights the figures are: a name is those of the package, a file may hold any."""
    known = {row.name: row.weights_sha256[:12] for row in rows if row.weights_sha256}
    return [f"weights: {', '.join(map(' '.join, known.items()))}"] if known else []


def tables(report: QualityReport, by_radius: bool) -> list[str]:
    """The table of means over pictures and, if wanted, that of PSNR by blur radius."""
    return [_table(_main(report.rows)), *([_table(_bands(report.rows))] if by_radius else [])]


def _main(rows: Sequence[QualityRow]) -> list[Column]:
    """The columns of the first table; those that no row fills are left out."""
    names = [f"`{row.name}`" if row.kind == "model" else row.name for row in rows]
    maps, found = [row.map for row in rows], [row.detection for row in rows]
    columns: list[Column] = [
        ("", names),
        *_similarity([row.similarity for row in rows], ""),
        *_similarity([row.deformed for row in rows], ", deformed truth"),
        _column("map MAE", maps, "mae", 3),
        ("map MAE, px", [_cell(_pixels(row), 2) for row in rows]),
        _column("map MSE", maps, "mse", 3),
        _column("F_max", found, "f_max", 3),
        *_wider(found),
        _column("focus MAE", found, "mae", 3),
        ("in focus, to input", [_cell(_focus(row), 2) for row in rows]),
    ]
    return [column for column in columns if any(cell != _NONE for cell in column[1])]


def _wider(found: Sequence[Detection | None]) -> list[Column]:
    """F_max with more than half a pixel let pass as in focus."""
    radii = sorted({under.under_px for each in found if each for under in each.wider})
    return [(f"F_max, {r:g} px", [_cell(_under(each, r), 3) for each in found]) for r in radii]


def _under(found: Detection | None, radius: float) -> float | None:
    wider = () if found is None else found.wider
    return next((under.f_max for under in wider if under.under_px == radius), None)


def _similarity(found: Sequence[Similarity | None], against: str) -> list[Column]:
    figures = (
        ("PSNR", "psnr_db", 2),
        ("SSIM", "ssim", 4),
        ("MAE", "mae", 4),
        ("LPIPS", "lpips", 3),
    )
    return [_column(head + against, found, field, digits) for head, field, digits in figures]


def _column(head: str, items: Sequence[object | None], field: str, digits: int) -> Column:
    return head, [_cell(None if i is None else getattr(i, field), digits) for i in items]


def _pixels(row: QualityRow) -> float | None:
    """The map's mean absolute error in pixels, where radii beyond the model's count as that."""
    return row.map.mae * row.max_radius if row.map and row.max_radius else None


def _focus(row: QualityRow) -> float | None:
    """PSNR of the output against the input where the blur radius is under half a pixel."""
    return row.bands[0].unchanged_db if row.bands and row.kind != "input" else None


def _bands(rows: Sequence[QualityRow]) -> list[Column]:
    """PSNR by blur radius, over all pixels of all pictures together."""
    shown = [row for row in rows if row.similarity is not None]
    first = [*shown[0].bands, shown[0].whole]
    columns: list[Column] = [
        ("blur radius (px)", [_name(band) for band in first[:-1]] + ["all"]),
        ("pixels", [f"{100 * band.share:.0f} %" for band in first]),
    ]
    columns += [(row.name, [_cell(b.psnr_db, 2) for b in (*row.bands, row.whole)]) for row in shown]
    return columns


def _name(band: RadiusBand) -> str:
    return f"over {band.low:g}" if band.high is None else f"{band.low:g} to {band.high:g}"


def _cell(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _table(columns: Sequence[Column]) -> str:
    heads = [head for head, _ in columns]
    rows = zip(*(cells for _, cells in columns), strict=True)
    rule = ["---", *("---:" for _ in columns[1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, rule, *rows))
