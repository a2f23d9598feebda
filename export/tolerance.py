"""How far an ONNX graph may be from the PyTorch net it came from.

Where 1 is white:

- float face, fp32: every value within 1e-4.
- float face, fp16: PSNR of at least the model's limit (`catalogue.Entry.fp16_db`); 60 dB are a root
  mean square error of a quarter of a level of 255.
- frame face, fp32: no sample off by more than one level, fewer than 0.1 % off at all. Errors of
  1e-6 flip a level only where a value lies that close to the middle between two.
- float face, bf16: 20 dB less, for it has three bits less; int8 and fp8: 30 dB, which a broken
  graph is far under. What 8 bits cost is measured on the evaluation set (`quality`).
- frame face, fp16: compared with the reference rounded to levels as well. An error of a quarter of
  a level flips about one sample in five by one level, and that is 55 dB: no more is asked there.
  No sample may be off by more than eight times the root mean square that is allowed (two levels at
  60 dB): a few bad pixels hide in a PSNR.
- nv12 and p010 faces: as the frame face, p010 by levels of 10 bits, of which errors flip four times
  as many. frame16: as the float face, for an error of 1e-4 is six of its levels.

Planes and vectors are float32 in all faces and are held to the float face's tolerance, vectors
where 1 is their own largest value.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Graph, Io, Precision

_BFLOAT16_DB = 20.0  # less than float16
_EIGHT_BITS_DB = 30.0
FRAME_DB = 55.0  # the most that is asked of rounded levels
LEVELS: dict[Io, int] = {"frame": 255, "nv12": 255, "p010": 1023}  # of faces with coarse ones


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far an output may be from the reference; None sets no limit."""

    max_abs: float | None = None
    psnr_db: float | None = None
    changed: float | None = None  # share of the samples that may differ at all

    def to_dict(self) -> dict[str, float]:
        """The limits that are set, for reports."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def tolerance(graph: Graph, name: str, fp16_db: float) -> Tolerance:
    """What the output `name` of `graph` is held to."""
    levels = LEVELS.get(graph.io) if KINDS[name] == "picture" else None
    if graph.precision != "fp32":
        least = least_db(graph.precision, fp16_db)
        if levels is None:
            return Tolerance(psnr_db=least)
        peak = round(8 * levels * 10 ** (-least / 20)) / levels
        return Tolerance(max_abs=peak, psnr_db=min(least, FRAME_DB))
    if levels is None:
        return Tolerance(max_abs=1e-4)
    return Tolerance(max_abs=1 / levels, changed=1e-3 * levels / 255)


def least_db(precision: Precision, fp16_db: float) -> float:
    """The PSNR against float32 that a precision under it must reach, where float16's is given."""
    if precision == "fp16":
        return fp16_db
    return fp16_db - _BFLOAT16_DB if precision == "bf16" else _EIGHT_BITS_DB
