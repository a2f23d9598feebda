"""A quality report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from allfocus.benchmarks.machine import summary
from allfocus.benchmarks.quality_schema import QualityReport, QualityRow, RadiusBand

_NONE = "–"
Column = tuple[str, list[str]]  # heading, one cell a row


def render(report: QualityReport, by_radius: bool) -> str:
    """The report's tables and notes."""
    size = f"{report.pictures} pictures, {report.pixels / 1e6:.2f} megapixels"
    parts = [
        f"{report.data}: {size}; output as {report.output}",
        _table(_main(report.rows)),
    ]
    if by_radius:
        parts.append(_table(_bands(report.rows)))
    parts += ["\n".join(f"- {note}" for note in (*report.notes, summary(report.machine)))]
    return "\n\n".join(parts)


def _main(rows: Sequence[QualityRow]) -> list[Column]:
    """The columns of the first table; those that no row fills are left out."""
    columns: list[Column] = [
        ("", [f"`{row.name}`" if row.kind == "model" else row.name for row in rows]),
        *_similarity(rows),
        *_deformed(rows),
        ("map MAE", [_cell(row.map and row.map.mae, 3) for row in rows]),
        ("map MSE", [_cell(row.map and row.map.mse, 3) for row in rows]),
        ("F_max", [_cell(row.detection and row.detection.f_max, 3) for row in rows]),
        ("focus MAE", [_cell(row.detection and row.detection.mae, 3) for row in rows]),
        ("in focus, to input", [_cell(_focus(row), 2) for row in rows]),
    ]
    return [column for column in columns if any(cell != _NONE for cell in column[1])]


def _similarity(rows: Sequence[QualityRow]) -> list[Column]:
    found = [row.similarity for row in rows]
    return [
        ("PSNR", [_cell(s and s.psnr_db, 2) for s in found]),
        ("SSIM", [_cell(s and s.ssim, 4) for s in found]),
        ("MAE", [_cell(s and s.mae, 4) for s in found]),
        ("LPIPS", [_cell(s and s.lpips, 3) for s in found]),
    ]


def _deformed(rows: Sequence[QualityRow]) -> list[Column]:
    found = [row.deformed for row in rows]
    return [
        ("PSNR, deformed truth", [_cell(s and s.psnr_db, 2) for s in found]),
        ("SSIM, deformed truth", [_cell(s and s.ssim, 4) for s in found]),
        ("MAE, deformed truth", [_cell(s and s.mae, 4) for s in found]),
        ("LPIPS, deformed truth", [_cell(s and s.lpips, 3) for s in found]),
    ]


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
