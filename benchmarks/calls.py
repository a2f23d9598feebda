"""One timed call of a contender: what all that `bench latency` compares gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]  # [H, W, 3], BGR


@dataclass(frozen=True)
class Call:
    """Milliseconds of one call. `total` is by the caller's clock, not a sum."""

    pre: float
    infer: float
    post: float
    total: float
