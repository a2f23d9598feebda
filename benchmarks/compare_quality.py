"""Views of results that judge quality: pictures, maps, trust. See `compare_views`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from allfocus.benchmarks.compare_figures import CpuOf, Figure, Score
from allfocus.runtime.ensemble import Ensemble
from allfocus.runtime.errors import ArtefactError


@dataclass(frozen=True, kw_only=True)
class Computed:
    """A row with how it was computed."""

    name: str
    backend: str | None
    precision: str | None
    weights_sha256: str | None

    def way(self) -> dict[str, str | None]:
        """How it was computed."""
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
class _QualityRow(Computed):
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
class Quality:
    """`allfocus eval`, of version 1."""

    machine: CpuOf
    data: str
    pictures: int
    pixels: int
    output: str
    rows: tuple[_QualityRow, ...]

    def same(self) -> dict[str, str]:
        """What must be equal in both results."""
        return {name: str(getattr(self, name)) for name in ("data", "pictures", "pixels", "output")}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        """What is compared, by name."""
        for row in self.rows:
            yield from ((f"{row.name}: {name}", figure) for name, figure in row.figures())


@dataclass(frozen=True, kw_only=True)
class QualityWithWays(Quality):
    """`allfocus eval`, with the ways to run a model."""

    rows: tuple[_QualityRowWithWider, ...]
    map_radius: float
    skip: str
    ensemble: Ensemble
    reach: float | None

    def same(self) -> dict[str, str]:
        """What must be equal in both results."""
        ways = ("map_radius", "skip", "ensemble", "reach")
        return super().same() | {name: str(getattr(self, name)) for name in ways}


@dataclass(frozen=True, kw_only=True)
class _DiscsRow(Computed):
    kind: str
    psnr_db: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Discs:
    """`allfocus bench discs`."""

    machine: CpuOf
    photos: tuple[str, ...]
    size: str
    shot_noise: float
    read_noise: float
    radii: tuple[float, ...]
    rows: tuple[_DiscsRow, ...]

    def same(self) -> dict[str, str]:
        """What must be equal in both results."""
        named = ("photos", "size", "shot_noise", "read_noise", "radii")
        return {name: str(getattr(self, name)) for name in named}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        """What is compared, by name."""
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
class Trust:
    """`allfocus bench trust`."""

    machine: CpuOf
    model: str
    rows: tuple[_TrustRow, ...]

    def same(self) -> dict[str, str]:
        """What must be equal in both results."""
        most = max((row.pictures for row in self.rows), default=0)
        return {"model": self.model, "pictures": str(most)}

    def figures(self) -> Iterable[tuple[str, Figure]]:
        """What is compared, by name."""
        for row in self.rows:
            yield f"{row.name}: AUC", Score(row.auc, "", 0.01)
