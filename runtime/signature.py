"""The named inputs and outputs of a graph. A name says what stands in it, in every model alike.

pictures (`image`, `left`, `right`, `blurry`, `sharp`, `reblurred`): RGB, where 1 is white.
planes: `defocus`, the blur radius, 0 in focus and 1 at `Spec.max_radius` pixels; `focus`, how much
a pixel is in focus, from 0 to 1.
vectors: `context`, what a tile must know of the whole picture that it is cut from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from allfocus.runtime.errors import ArtefactError

Phase = Literal["whole", "estimate", "restore"]
Kind = Literal["picture", "plane", "vector"]

PHASES: tuple[Phase, ...] = get_args(Phase)
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("image", "left", "right", "blurry", "sharp", "reblurred"), "picture"),
    **dict.fromkeys(("defocus", "focus"), "plane"),
    "context": "vector",
}


@dataclass(frozen=True)
class Signature:
    """What goes into a graph and what comes out, by name and in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        unknown = [name for name in (*self.inputs, *self.outputs) if name not in KINDS]
        if unknown or not self.inputs or not self.outputs:
            raise ValueError(f"{self}: expected names of {', '.join(KINDS)}")

    def __str__(self) -> str:
        return f"{', '.join(self.inputs)} -> {', '.join(self.outputs)}"

    @property
    def deblurs(self) -> bool:
        """Whether a single picture goes in and its sharp version comes out."""
        return self.inputs == ("image",) and "sharp" in self.outputs

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values, for JSON."""
        return {"inputs": list(self.inputs), "outputs": list(self.outputs)}

    @classmethod
    def from_dict(cls, data: Any) -> Signature:
        """Inverse of `to_dict`; raises ArtefactError on anything else."""
        try:
            return cls(tuple(data["inputs"]), tuple(data["outputs"]))
        except (TypeError, KeyError, ValueError):
            raise ArtefactError(f"signature: expected inputs and outputs, got {data!r}") from None


DEBLUR = Signature(("image",), ("sharp", "defocus"))
