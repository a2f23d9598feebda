"""Shapes and types of a graph's tensors by their names."""

from __future__ import annotations

import numpy as np
import pytest

from allfocus.runtime.layout import layout
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Io, Size

SIZE = Size(6, 4)


@pytest.mark.parametrize(
    ("name", "io", "shape", "dtype"),
    [
        ("image", "frame", (1, 4, 6, 3), np.uint8),
        ("image", "float", (1, 3, 4, 6), np.float32),
        ("defocus", "frame", (1, 4, 6), np.float32),
        ("focus", "float", (1, 1, 4, 6), np.float32),
        ("context", "frame", (1, 5, 1, 1), np.float32),
        ("context", "float", (1, 5, 1, 1), np.float32),
    ],
)
def test_height_comes_before_width(name: str, io: Io, shape: tuple[int, ...], dtype: type) -> None:
    found = layout(name, io)
    assert (found.shape(SIZE, 5), found.dtype) == (shape, np.dtype(dtype))
    assert found.fits(shape)
    assert found.size(shape) == (None if name == "context" else SIZE)


@pytest.mark.parametrize("io", ["frame", "float"])
@pytest.mark.parametrize("name", KINDS)
def test_other_ranks_and_channels_do_not_fit(name: str, io: Io) -> None:
    found = layout(name, io)
    shape = found.shape(SIZE, 5)
    assert not found.fits(shape[1:])
    assert not found.fits((2, *shape[1:]))
    spatial = found.spatial()
    assert spatial is None or [shape[axis] for axis in spatial] == [4, 6]


def test_it_says_what_it_takes() -> None:
    assert str(layout("image", "frame")) == "uint8 [1, H, W, 3]"
    assert str(layout("context", "float")) == "float32 [1, K, 1, 1]"
