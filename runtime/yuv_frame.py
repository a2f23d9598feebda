"""What a frame of luma and chroma may be: [3H/2, W], uint8 as NV12 and uint16 as P010 have it."""

from __future__ import annotations

from typing import Any

import numpy as np

from allfocus.runtime.errors import InputError
from allfocus.runtime.spec import Io

_DTYPES: dict[Io, np.dtype[Any]] = {"nv12": np.dtype(np.uint8), "p010": np.dtype(np.uint16)}
EXPECTED: dict[Io, str] = {
    "nv12": "expected an nv12 frame, uint8 [3H/2, W]",
    "p010": "expected a p010 frame, uint16 [3H/2, W] with 10 bits in the high ones",
}
_ORDER = "H rows of luma with H/2 rows of chroma below them"


def check_yuv(shape: tuple[int, ...], dtype: np.dtype[Any], io: Io) -> None:
    """Raise InputError for what is no frame of the face `io`."""
    found = f"{EXPECTED[io]}, got {dtype} {list(shape)}"
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        raise InputError(
            f"{found}: that is a colour frame; convert it, or export the model with "
            f"`--io {'frame16' if dtype == np.uint16 else 'frame'}`"
        )
    if len(shape) == 3:
        raise InputError(f"{found}: give one frame at a time, such as frames[0]")
    if len(shape) != 2:
        raise InputError(f"{found}: it has two dimensions, {_ORDER}")
    if 0 in shape:
        raise InputError(f"{found}: the frame is empty")
    if dtype != _DTYPES[io]:
        raise InputError(f"{found}: {_mend(dtype, io)}")
    if shape[0] % 3:
        raise InputError(
            f"{found}: {shape[0]} rows are not a multiple of 3, {_ORDER}; H must be even, and rows "
            "that pad a decoder's luma must be cut off"
        )
    if shape[1] % 2:
        raise InputError(
            f"{found}: {shape[1]} columns are odd, and two share a sample of chroma: cut one off"
        )


def _mend(dtype: np.dtype[Any], io: Io) -> str:
    for other, wanted in _DTYPES.items():
        if dtype == wanted:
            return f"give {_DTYPES[io]}, or export the model with `--io {other}`"
    return f"give the decoder's samples as {_DTYPES[io]}"
