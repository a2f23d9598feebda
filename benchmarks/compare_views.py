"""What two results of a benchmark are compared by: ratios and figures of their own run, by name.

Each view names those keys of a result's JSON that count here (see `schema.decode`), what must be
the same in both for a comparison to mean something, and its figures. Milliseconds are not among
them: those of two runs differ by the machine and its load.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allfocus.benchmarks.compare_figures import Count, CpuOf, Figure, Ratio, Result, Score
from allfocus.benchmarks.compare_quality import Computed, Discs, Quality, QualityWithWays, Trust
from allfocus.benchmarks.schema import Stats, decode, parsed
from allfocus.runtime.ensemble import Ensemble
from allfocus.runtime.errors import ArtefactError, UsageError


@dataclass(frozen=True, kw_only=True)
class _LatencyRow:
    name: str
    speedup: Stats | None


@dataclass(frozen=True, kw_only=True)
class _Latency:
    machine: CpuOf
    model: str
    size: str
    threads: int
    rows: tuple[_LatencyRow, ...]

    def same(self) -> dict[str, str]:
        return {"model": self.model, "size": self.size, "threads": str(self.threads)}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            if row.speedup is not None:
                yield f"{row.name}: speed of eager PyTorch", Ratio(row.speedup, "higher")


@dataclass(frozen=True, kw_only=True)
class _LatencyWithSkip(_Latency):
    skip: str

    def same(self) -> dict[str, str]:
        return super().same() | {"skip": self.skip}


@dataclass(frozen=True, kw_only=True)
class _TilesRow:
    name: str
    size: str
    memory: str
    ratio: Stats


@dataclass(frozen=True, kw_only=True)
class _Tiles:
    machine: CpuOf
    model: str
    blurred: float
    rows: tuple[_TilesRow, ...]

    def same(self) -> dict[str, str]:
        """There was one backend, and one precision, when these were written."""
        way = {"backend": "onnxruntime", "precision": "fp32"}
        return {"model": self.model, "blurred": str(self.blurred)} | way

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            if row.name != "at once":  # that is what the others are held against
                name = f"{row.name}, {row.size}, {row.memory}: time of at once"
                yield name, Ratio(row.ratio, "lower")


@dataclass(frozen=True, kw_only=True)
class _TilesOneWay(_Tiles):
    backend: str
    precision: str

    def same(self) -> dict[str, str]:
        return super().same() | {"backend": self.backend, "precision": self.precision}


@dataclass(frozen=True, kw_only=True)
class _Stream:
    machine: CpuOf
    model: str
    size: str
    frames: int
    share: Stats

    def same(self) -> dict[str, str]:
        return {"model": self.model, "size": self.size, "frames": str(self.frames)}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        yield "pipeline: rate of the frames alone", Ratio(self.share, "higher")


@dataclass(frozen=True, kw_only=True)
class _ThroughputRow:
    streams: int
    against_one: Stats


@dataclass(frozen=True, kw_only=True)
class _Throughput:
    machine: CpuOf
    model: str
    backend: str
    precision: str
    size: str
    rows: tuple[_ThroughputRow, ...]

    def same(self) -> dict[str, str]:
        named = ("model", "backend", "precision", "size")
        return {name: getattr(self, name) for name in named}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            if row.streams != 1:
                yield f"{row.streams} streams: rate of one", Ratio(row.against_one, "higher")


@dataclass(frozen=True, kw_only=True)
class _RatioRow:
    name: str
    ratio: Stats


@dataclass(frozen=True, kw_only=True)
class _Ratios:
    machine: CpuOf
    model: str
    size: str
    rows: tuple[_RatioRow, ...]
    counts: dict[str, float]

    def same(self) -> dict[str, str]:
        return {"model": self.model, "size": self.size}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            yield row.name, Ratio(row.ratio, "lower")
        for name, value in self.counts.items():
            yield name, Count(value)


@dataclass(frozen=True, kw_only=True)
class _TradeRow:
    model: str
    engine: str
    precision: str
    passes: Ensemble
    reach: float | None
    times_as_fast: Stats
    psnr_db: float | None


@dataclass(frozen=True, kw_only=True)
class _Trade:
    machine: CpuOf
    size: str
    threads: int
    rows: tuple[_TradeRow, ...]

    def same(self) -> dict[str, str]:
        return {"size": self.size, "threads": str(self.threads)}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            if row.psnr_db is not None:  # eager PyTorch, that all are held against, is not judged
                name = f"{row.model}, {row.engine}, {row.precision}, {row.passes} passes"
                name += "" if row.reach is None else f", reach {row.reach:g}"
                yield f"{name}: speed of eager PyTorch", Ratio(row.times_as_fast, "higher")
                yield f"{name}: PSNR", Score(row.psnr_db, "dB", 0.05)


_VIEWS: dict[str, type[Any]] = {
    "allfocus/latency/1": _Latency,
    "allfocus/latency/2": _LatencyWithSkip,
    "allfocus/tiles/1": _Tiles,
    "allfocus/tiles/2": _TilesOneWay,
    "allfocus/stream/1": _Stream,
    "allfocus/throughput/1": _Throughput,
    "allfocus/quality/1": Quality,
    "allfocus/quality/2": QualityWithWays,
    "allfocus/discs/1": Discs,
    "allfocus/trust/1": Trust,
    "allfocus/ratios/1": _Ratios,
    "allfocus/trade/3": _Trade,
}


def read(path: Path) -> Result:
    """The result in a file; raises UsageError where there is none that can be compared."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); give two JSON results") from None
    try:
        return parse(text)
    except (ArtefactError, UsageError) as error:
        raise UsageError(f"{path}: {error}") from None


def parse(text: str) -> Result:
    """A result's JSON; raises UsageError or ArtefactError that names what does not fit."""
    try:
        data = parsed(text)
    except ValueError as error:
        raise UsageError(f"not JSON ({error}); give a file that a benchmark wrote") from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if not isinstance(schema, str) or schema not in _VIEWS:
        raise UsageError(f"its schema is {schema!r}; can be compared: {', '.join(_VIEWS)}")
    view = decode(_VIEWS[schema], text, part=True)
    found = list(view.figures())
    _check_names([name for name, _ in found])
    for name, figure in found:
        _check_range(name, figure)
    if not found:
        raise UsageError(
            "nothing in it is held against anything else of its run; measure with more than one "
            "contender (latency: with --baseline eager)"
        )
    machine: CpuOf = view.machine
    rows = getattr(view, "rows", ())
    return Result(
        schema,
        view.same(),
        f"{machine.cpu}, {machine.cores} cores",
        dict(found),
        {row.name: row.way() for row in rows if isinstance(row, Computed)},
    )


def _check_range(name: str, figure: Figure) -> None:
    """A time over a time, or a rate over a rate, is above 0; nothing is counted less than never."""
    if isinstance(figure, Ratio) and figure.stats.p05 <= 0:
        raise ArtefactError(
            f"{name}: expected ratios above 0, got a p05 of {figure.stats.p05:g}; measure again"
        )
    if isinstance(figure, Count) and figure.value < 0:
        raise ArtefactError(f"{name}: expected 0 or more, got {figure.value:g}; measure again")


def _check_names(names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{', '.join(twice)} stands in it twice; measure again")
