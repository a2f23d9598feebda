"""What two results of a benchmark are compared by: ratios and figures of their own run, by name.

Each view names those keys of a result's JSON that count here (see `schema.decode`), what must be
the same in both for a comparison to mean something, and its figures. Milliseconds are not among
them: those of two runs differ by the machine and its load.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from allfocus.benchmarks.schema import Stats, decode, parsed
from allfocus.runtime.errors import ArtefactError, UsageError

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Ratio:
    """Something over something else of the same round: its statistics over the rounds."""

    stats: Stats
    better: Better

    @property
    def judged(self) -> bool:
        """Whether it has a spread: one round has none, and may be anything."""
        return self.stats.p05 < self.stats.p95


@dataclass(frozen=True)
class Count:
    """Something that is counted: the same in each run of the same program. Less is better.

    `may_grow`: other versions of Python and NumPy count a little more or less.
    """

    value: float
    may_grow: float = 0.25


@dataclass(frozen=True)
class Score:
    """A figure of quality, the more the better, and how much of it may be lost by default.

    `main`: whether `--max-loss` sets that, being in its unit.
    """

    value: float
    unit: str
    may_lose: float
    main: bool = True


Figure = Ratio | Count | Score


@dataclass(frozen=True)
class Result:
    """A file as far as it is compared. `same`: what must be equal; `cpu`: where it was measured;
    `ways`: how each row was computed, where that is told, which may differ and is told then.
    """

    schema: str
    same: dict[str, str]
    cpu: str
    figures: dict[str, Figure]
    ways: dict[str, dict[str, str | None]]


@dataclass(frozen=True, kw_only=True)
class _Machine:
    cpu: str
    cores: int


@dataclass(frozen=True, kw_only=True)
class _LatencyRow:
    name: str
    speedup: Stats | None


@dataclass(frozen=True, kw_only=True)
class _Latency:
    machine: _Machine
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
    machine: _Machine
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
    machine: _Machine
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
    machine: _Machine
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
class _Computed:
    name: str
    backend: str | None
    precision: str | None
    weights_sha256: str | None

    def way(self) -> dict[str, str | None]:
        named = ("backend", "precision", "weights_sha256")
        return {name: getattr(self, name) for name in named}


@dataclass(frozen=True, kw_only=True)
class _Similarity:
    psnr_db: float
    ssim: float


@dataclass(frozen=True, kw_only=True)
class _MapError:
    mae: float


@dataclass(frozen=True, kw_only=True)
class _Detection:
    f_max: float
    mae: float | None


@dataclass(frozen=True, kw_only=True)
class _FocusUnder:
    under_px: float
    f_max: float


@dataclass(frozen=True, kw_only=True)
class _DetectionWithWider(_Detection):
    wider: tuple[_FocusUnder, ...]


@dataclass(frozen=True, kw_only=True)
class _RadiusBand:
    unchanged_db: float | None


@dataclass(frozen=True, kw_only=True)
class _QualityRow(_Computed):
    kind: str
    similarity: _Similarity | None
    map: _MapError | None
    detection: _Detection | None
    bands: tuple[_RadiusBand, ...]

    def figures(self) -> Iterable[tuple[str, Figure]]:
        """Of each its own loss: they are in other units than PSNR, or spread more than it."""
        if self.similarity is not None and self.kind != "input":
            yield "PSNR", Score(self.similarity.psnr_db, "dB", 0.05)
            yield "SSIM", Score(self.similarity.ssim, "", 0.002, main=False)
        in_focus = self.bands[0].unchanged_db if self.bands else None
        if in_focus is not None and self.kind != "input":
            yield "in focus, to input", Score(in_focus, "dB", 0.5, main=False)
        if self.map is not None:
            yield "1 - map MAE", Score(1 - self.map.mae, "", 0.005, main=False)
        if self.detection is not None:
            yield "F_max", Score(self.detection.f_max, "", 0.01, main=False)
            if self.detection.mae is not None:
                yield "1 - focus MAE", Score(1 - self.detection.mae, "", 0.005, main=False)


@dataclass(frozen=True, kw_only=True)
class _QualityRowWithWider(_QualityRow):
    detection: _DetectionWithWider | None

    def figures(self) -> Iterable[tuple[str, Figure]]:
        yield from super().figures()
        for each in () if self.detection is None else self.detection.wider:
            yield f"F_max, {each.under_px:g} px", Score(each.f_max, "", 0.01, main=False)


@dataclass(frozen=True, kw_only=True)
class _Quality:
    machine: _Machine
    data: str
    pictures: int
    pixels: int
    output: str
    rows: tuple[_QualityRow, ...]

    def same(self) -> dict[str, str]:
        return {name: str(getattr(self, name)) for name in ("data", "pictures", "pixels", "output")}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            yield from ((f"{row.name}: {name}", figure) for name, figure in row.figures())


@dataclass(frozen=True, kw_only=True)
class _QualityWithWays(_Quality):
    rows: tuple[_QualityRowWithWider, ...]
    map_radius: float
    skip: str
    ensemble: int
    reach: float | None

    def same(self) -> dict[str, str]:
        ways = ("map_radius", "skip", "ensemble", "reach")
        return super().same() | {name: str(getattr(self, name)) for name in ways}


@dataclass(frozen=True, kw_only=True)
class _DiscsRow(_Computed):
    kind: str
    psnr_db: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class _Discs:
    machine: _Machine
    photos: tuple[str, ...]
    size: str
    shot_noise: float
    read_noise: float
    radii: tuple[float, ...]
    rows: tuple[_DiscsRow, ...]

    def same(self) -> dict[str, str]:
        named = ("photos", "size", "shot_noise", "read_noise", "radii")
        return {name: str(getattr(self, name)) for name in named}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            if len(row.psnr_db) != len(self.radii):
                raise ArtefactError(
                    f"{row.name}: expected {len(self.radii)} of psnr_db, one for each of radii, "
                    f"got {len(row.psnr_db)}; measure again"
                )
            if row.kind != "input":
                for radius, psnr in zip(self.radii, row.psnr_db, strict=True):
                    yield f"{row.name} at {radius:g} px: PSNR", Score(psnr, "dB", 0.05)


@dataclass(frozen=True, kw_only=True)
class _TrustRow:
    name: str
    pictures: int
    auc: float


@dataclass(frozen=True, kw_only=True)
class _Trust:
    machine: _Machine
    model: str
    rows: tuple[_TrustRow, ...]

    def same(self) -> dict[str, str]:
        most = max((row.pictures for row in self.rows), default=0)
        return {"model": self.model, "pictures": str(most)}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        for row in self.rows:
            yield f"{row.name}: AUC", Score(row.auc, "", 0.01)


@dataclass(frozen=True, kw_only=True)
class _RatioRow:
    name: str
    ratio: Stats


@dataclass(frozen=True, kw_only=True)
class _Ratios:
    machine: _Machine
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
    passes: int
    reach: float | None
    times_as_fast: Stats
    psnr_db: float | None


@dataclass(frozen=True, kw_only=True)
class _Trade:
    machine: _Machine
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
    "allfocus/quality/1": _Quality,
    "allfocus/quality/2": _QualityWithWays,
    "allfocus/discs/1": _Discs,
    "allfocus/trust/1": _Trust,
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
    machine: _Machine = view.machine
    rows = getattr(view, "rows", ())
    return Result(
        schema,
        view.same(),
        f"{machine.cpu}, {machine.cores} cores",
        dict(found),
        {row.name: row.way() for row in rows if isinstance(row, _Computed)},
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
