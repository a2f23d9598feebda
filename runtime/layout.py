"""The type and the axes of a graph's inputs and outputs, by their names and the graph's face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from allfocus.runtime.signature import KINDS, Kind
from allfocus.runtime.spec import Io, Size

_AXES: dict[tuple[Kind, Io], tuple[int | str, ...]] = {
    ("picture", "frame"): (1, "H", "W", 3),
    ("picture", "float"): (1, 3, "H", "W"),
    ("plane", "frame"): (1, "H", "W"),
    ("plane", "float"): (1, 1, "H", "W"),
    ("vector", "frame"): (1, "K", 1, 1),
    ("vector", "float"): (1, "K", 1, 1),
}


@dataclass(frozen=True)
class Layout:
    """One tensor of a graph: H and W are the picture's height and width, K is a vector's length."""

    axes: tuple[int | str, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"{self.dtype} [{', '.join(map(str, self.axes))}]"

    def shape(self, size: Size, length: int = 0) -> tuple[int, ...]:
        """The tensor's shape for a picture of `size`; `length` stands for K."""
        extents = {"H": size.height, "W": size.width, "K": length}
        return tuple(extents[axis] if isinstance(axis, str) else axis for axis in self.axes)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether `shape` is one of this layout, for any size and length."""
        pairs = zip(self.axes, shape, strict=False)
        return len(shape) == len(self.axes) and all(isinstance(a, str) or a == n for a, n in pairs)

    def size(self, shape: tuple[int, ...]) -> Size | None:
        """The picture's size in a shape that fits; None for a vector."""
        if "H" not in self.axes:
            return None
        return Size(shape[self.axes.index("W")], shape[self.axes.index("H")])

    def spatial(self) -> tuple[int, int] | None:
        """The positions of the axes H and W; None for a vector."""
        return (self.axes.index("H"), self.axes.index("W")) if "H" in self.axes else None


def layout(name: str, io: Io) -> Layout:
    """The layout of the tensor `name` in a graph with the face `io`."""
    levels = io == "frame" and KINDS[name] == "picture"
    return Layout(_AXES[KINDS[name], io], np.dtype(np.uint8 if levels else np.float32))
