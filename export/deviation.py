"""The distance of an output from its reference, in figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.export.tolerance import Tolerance
from allfocus.runtime.errors import ParityError

_HIGHEST_PSNR = 200.0  # dB, of equal arrays: JSON has no infinity


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far an output is from the reference, where 1 is white (or the map's largest radius)."""

    max_abs: float
    mean_abs: float
    psnr_db: float  # at most 200
    changed: float  # share of the samples that differ at all

    def exceeds(self, limit: Tolerance) -> bool:
        """Whether any limit is broken; NaN breaks every one."""
        within = (
            limit.max_abs is None or self.max_abs <= limit.max_abs,
            limit.psnr_db is None or self.psnr_db >= limit.psnr_db,
            limit.changed is None or self.changed < limit.changed,
        )
        return not all(within)


def measure(name: str, found: NDArray[Any], expected: NDArray[Any], white: float) -> Deviation:
    """The deviation of the output `name`, `white` being its 1.

    Raises ParityError where the shapes differ or a value is not finite.
    """
    if found.shape != expected.shape:
        raise ParityError(
            f"the ONNX graph's {name!r} has shape {list(found.shape)}, the PyTorch net's "
            f"{list(expected.shape)}; nothing was kept"
        )
    for whose, values in (("PyTorch net", expected), ("ONNX graph", found)):
        if not np.isfinite(values).all():
            raise ParityError(
                f"the {whose}'s {name!r} holds NaN or infinity; nothing was kept. With fp16, try "
                "--fp32-layers auto or --precision fp32; with fp32, the weights are damaged"
            )
    error = np.abs(found.astype(np.float64) - expected.astype(np.float64)) / white
    square = float(np.mean(error**2))
    return Deviation(
        max_abs=float(error.max()),
        mean_abs=float(error.mean()),
        psnr_db=min(_HIGHEST_PSNR, -10 * math.log10(square)) if square else _HIGHEST_PSNR,
        changed=float(np.count_nonzero(error)) / error.size,
    )
