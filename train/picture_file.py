"""Pictures that this project makes, as files: whole or not there.

Not `cv2.imwrite`: it does not tell where the last bytes of a file could not be written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.pictures.formats import format_for
from allfocus.runtime.pictures.image import Picture, write_image
from allfocus.runtime.pictures.metadata import Metadata


def write_picture(path: Path, pixels: NDArray[Any], *, quality: int | None = None) -> None:
    """Write grey [H, W] or, as OpenCV has it, BGR [H, W, 3], uint8 or uint16, as `path` names it.

    `quality` 1 to 100 is that of a JPEG, at least 95 where none is given. Raises UsageError where
    `path` names no format, and AllfocusError where it cannot be written.
    """
    picture = Picture(
        pixels=np.ascontiguousarray(pixels),
        metadata=Metadata(),
        format=format_for(path).name,
        lossless=True,
    )
    write_image(path, picture, quality=quality)
