"""This project's own marks for a data-centre GPU, held against what a report measured."""

from __future__ import annotations

from allfocus.benchmarks.schema import LatencyReport, Row

MODEL, SIZE, PRECISION = "didanet", "600x400", "fp16"
MILLISECONDS = 4.0  # a frame
BESIDE, PROPORTION = "1920x1080", 0.10  # time a pixel against that at SIZE
OVERHEAD = 0.05  # share of a call in which the GPU has no work


def marks(report: LatencyReport) -> list[str]:
    """A line for each mark and row that it is about; one line where no GPU ran such a row."""
    if (report.model, report.size) != (MODEL, SIZE):
        return []
    rows = [row for row in report.rows if _counts(row)]
    if not rows:
        return [
            f"not measured: the marks of {MODEL} in {PRECISION} at {SIZE} on a data-centre GPU (at "
            f"most {MILLISECONDS:g} ms; {BESIDE} in proportion within {PROPORTION:.0%}; host "
            f"overhead at most {OVERHEAD:.0%}): nothing ran there in {PRECISION}"
        ]
    return [line for row in rows for line in _lines(row)]


def _counts(row: Row) -> bool:
    return (row.role, row.device, row.precision) == ("runtime", "cuda", PRECISION)


def _lines(row: Row) -> list[str]:
    took = row.total_ms.median
    found = [
        f"{row.name}: {took:.2f} ms, the mark is at most {MILLISECONDS:g} ms: "
        f"{_verdict(took <= MILLISECONDS)}"
    ]
    if row.beside is not None and row.beside.size == BESIDE:
        share = row.beside.per_pixel.median
        reached = abs(share - 1) <= PROPORTION
        found.append(
            f"{row.name}: a pixel of {BESIDE} takes {share:.2f} of one of {SIZE}, the mark is "
            f"within {PROPORTION:.0%}: {_verdict(reached)}"
        )
    else:
        found.append(f"{row.name}: {BESIDE} in proportion: not measured")
    if row.host_overhead is not None:
        reached = row.host_overhead <= OVERHEAD
        found.append(
            f"{row.name}: host overhead {row.host_overhead:.1%}, the mark is at most "
            f"{OVERHEAD:.0%}: {_verdict(reached)}"
        )
    else:
        found.append(f"{row.name}: host overhead: not measured")
    return found


def _verdict(reached: bool) -> str:
    return "reached" if reached else "missed"
