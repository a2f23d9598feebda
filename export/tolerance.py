"""How far an ONNX graph may be from the PyTorch net it came from.

Where 1 is white:

- float face, fp32: every value within 1e-4.
- float face, fp16: PSNR of at least 60 dB, a root mean square error of a quarter of a level of 255.
- frame face, fp32: no sample off by more than one level, fewer than 0.1 % off at all. Errors of
  1e-6 flip a level only where a value lies that close to the middle between two.
- frame face, fp16: compared with the reference rounded to levels as well. An error of a quarter of
  a level flips about one sample in five by one level, and that is 55 dB: the same demand as 60 dB
  before rounding. No sample may be off by more than two levels.

The map is float32 in both faces and is held to the float face's tolerance.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from allfocus.runtime.spec import Graph, Io, Precision


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an output may be from the reference; None sets no limit."""

    max_abs: float | None = None
    psnr_db: float | None = None
    changed: float | None = None  # share of the samples that may differ at all

    def to_dict(self) -> dict[str, float]:
        """The limits that are set, for reports."""
        return {name: value for name, value in asdict(self).items() if value is not None}


TOLERANCES: dict[tuple[Io, Precision], Tolerance] = {
    ("float", "fp32"): Tolerance(max_abs=1e-4),
    ("float", "fp16"): Tolerance(psnr_db=60.0),
    ("frame", "fp32"): Tolerance(max_abs=1 / 255, changed=1e-3),
    ("frame", "fp16"): Tolerance(max_abs=2 / 255, psnr_db=55.0),
}


def tolerance(graph: Graph) -> Tolerance:
    """What the output `sharp` of `graph` is held to."""
    return TOLERANCES[graph.io, graph.precision]
