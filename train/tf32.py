"""Whether GPUs may round what float32 layers multiply to ten bits (TF32, from Ampere on).

PyTorch lets convolutions do so unless it is told otherwise, and calls the result float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Within it, convolutions and products of matrices may be in TF32, or not."""
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = allowed
        yield
    finally:
        for place, former in zip(places, before, strict=True):
            place.allow_tf32 = former
