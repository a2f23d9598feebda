"""The values that tensors take on real pictures: what calibration finds, and its file.

One set serves every dialect of quantisation, every size, and the phases, whose layers are those of
the whole model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.files import publish
from allfocus.runtime.spec import Spec, from_fields

SCHEMA = "allfocus/ranges/1"
_AGAIN = "calibrate again: leave out --ranges, or export with --calibrate DIR"

Ends = tuple[float, float]  # the lowest and the highest value


@dataclass(frozen=True)
class Around:
    """Of one layer: what goes in, and what comes out (behind its ReLU)."""

    input: Ends
    output: Ends


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Ranges of all layers of the weights `weights_sha256`, and where they come from."""

    model: str
    weights_sha256: str
    method: str  # of `histogram.METHODS`
    source: str  # what the crops are, in words
    crops: int
    side: int  # pixels of a crop's side
    layers: Mapping[str, Around]

    def check(self, spec: Spec, layers: Mapping[str, object]) -> None:
        """Raise ArtefactError where they are another graph's: of other weights, or layers."""
        if (self.model, self.weights_sha256) != (spec.name, spec.weights_sha256):
            raise ArtefactError(
                f"ranges of {self.model} with weights {self.weights_sha256[:12]}, and the graph is "
                f"{spec.name} with weights {spec.weights_sha256[:12]}: {_AGAIN}"
            )
        missing = [name for name in layers if name not in self.layers]
        if missing:
            raise ArtefactError(
                f"ranges of {self.model}: none of the layers {', '.join(missing[:4])}; the graph "
                f"has other layers than when it was calibrated: {_AGAIN}"
            )

    @property
    def digest(self) -> str:
        """16 hex digits of all ranges."""
        text = json.dumps({name: asdict(each) for name, each in sorted(self.layers.items())})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def write(self, path: Path) -> None:
        """To a JSON file that `read` takes."""
        with publish(path) as draft:
            draft.write_text(
                json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n", encoding="utf-8"
            )


def read(path: Path) -> Ranges:
    """What `Ranges.write` wrote; raises ArtefactError for anything else."""
    if not path.is_file():
        raise ArtefactError(f"{path}: no such file of ranges; {_AGAIN}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
            raise ArtefactError(f"{path}: expected ranges ({SCHEMA}); {_AGAIN}")
        raw = from_fields(Ranges, data, str(path))
        layers = {name: _around(each) for name, each in raw.layers.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"{path}: damaged ({error}); {_AGAIN}") from None
    return Ranges(**{**asdict(raw), "layers": layers})


def _around(data: Any) -> Around:
    return Around(_ends(data["input"]), _ends(data["output"]))


def _ends(data: Any) -> Ends:
    low, high = (float(value) for value in data)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"from {low} to {high}")
    return low, high
