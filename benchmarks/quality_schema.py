"""The JSON of `allfocus eval`, read and written as the other benchmarks' is (see `schema`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from allfocus.benchmarks.schema import Machine
from allfocus.runtime.ensemble import Ensemble

QUALITY: Literal["allfocus/quality/2"] = "allfocus/quality/2"

Kind = Literal["input", "classical", "model"]


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """A picture against its truth, or the means of such; see `train.metrics`."""

    psnr_db: float  # at most 99
    ssim: float
    mae: float
    lpips: float | None  # null where the package or its weights are not installed


@dataclass(frozen=True, kw_only=True)
class MapError:
    """A map of blur radii against the true one, both in units of the model's max_radius."""

    mae: float
    mse: float


@dataclass(frozen=True, kw_only=True)
class FocusUnder:
    """F_max where all that shows a blur radius under `under_px` counts as in focus."""

    under_px: float
    share: float  # of all pixels: in focus by that
    f_max: float


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What is called in focus against what is. `mae` is null for scores that are no probability."""

    f_max: float  # under half a pixel of radius, or where a mask says so
    mae: float | None
    wider: tuple[FocusUnder, ...]  # with more let pass as in focus; empty for masks alone


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture's figures; each is null where the row or the data give none."""

    name: str
    similarity: Similarity | None
    deformed: Similarity | None  # against the truth, warped onto the output by optical flow
    map: MapError | None


@dataclass(frozen=True, kw_only=True)
class RadiusBand:
    """All pixels of all pictures that show a blur radius in [low, high) pixels, taken together.

    `psnr_db` is against the truth, `unchanged_db` against the input; both at most 99, and null
    where no pixel is, or no picture comes out.
    """

    low: float
    high: float | None  # null: no upper end
    pixels: int
    share: float  # of all pixels
    psnr_db: float | None
    unchanged_db: float | None


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """The input, a baseline or a model: means over pictures, bands, and each picture's figures."""

    name: str
    kind: Kind
    backend: str | None
    precision: str | None
    weights: str | None  # where they come from
    weights_sha256: str | None
    max_radius: float | None  # pixels of blur radius at map value 1
    similarity: Similarity | None
    deformed: Similarity | None
    map: MapError | None
    detection: Detection | None
    whole: RadiusBand  # the sum of `bands`
    bands: tuple[RadiusBand, ...]  # empty where the data have no maps
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """What `allfocus eval` writes."""

    schema: Literal["allfocus/quality/2"]
    machine: Machine
    data: str
    pictures: int
    pixels: int
    output: Literal["8 bits", "float"]
    map_radius: float  # pixels of blur radius that white stands for in a folder's maps
    skip: str  # what models let through unchanged
    ensemble: Ensemble  # passes of each picture; "map": one, under a map of two
    reach: float | None  # pixels; null: the models' own
    rows: tuple[QualityRow, ...]
    notes: tuple[str, ...]
