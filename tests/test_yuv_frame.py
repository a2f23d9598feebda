"""What a decoder's frame may be, and what is said of those that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from allfocus.runtime.errors import InputError
from allfocus.runtime.frame import checked
from allfocus.runtime.spec import Io

U8, U16 = np.uint8, np.uint16
BAD: list[tuple[Io, Any, str]] = [
    ("nv12", [[1, 2]], r"uint8 \[3H/2, W\], got list.*np\.asarray"),
    ("nv12", np.zeros((6, 4), U16), r"uint8 \[3H/2, W\], got uint16 \[6, 4\].*--io p010"),
    ("p010", np.zeros((6, 4), U8), r"uint16 \[3H/2, W\].*got uint8 \[6, 4\].*--io nv12"),
    ("nv12", np.zeros((6, 4), np.float32), "got float32.*samples as uint8"),
    ("p010", np.zeros((6, 4), ">u2"), "got >u2.*samples as uint16"),
    ("nv12", np.zeros((4, 4, 3), U8), r"a colour frame; convert it.*--io frame`"),
    ("nv12", np.zeros((4, 4, 3), U16), "a colour frame.*--io frame16`"),
    ("nv12", np.zeros((2, 6, 8), U8), r"one frame at a time, such as frames\[0\]"),
    ("nv12", np.zeros(6, U8), "two dimensions, H rows of luma with H/2 rows of chroma"),
    ("nv12", np.zeros((1, 1, 6, 8), U8), "two dimensions"),
    ("nv12", np.zeros((0, 4), U8), "empty"),
    ("nv12", np.zeros((1088, 4), U8), "1088 rows are not a multiple of 3.*decoder's luma"),
    ("p010", np.zeros((7, 4), U16), "7 rows are not a multiple of 3.*H must be even"),
    ("nv12", np.zeros((6, 5), U8), "5 columns are odd.*cut one off"),
]


@pytest.mark.parametrize(("io", "frame", "says"), BAD)
def test_what_is_no_frame_is_refused_with_its_reason(io: Io, frame: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        checked(frame, io)


@pytest.mark.parametrize(("io", "dtype"), [("nv12", U8), ("p010", U16)])
def test_the_smallest_frame_is_taken(io: Io, dtype: Any) -> None:
    assert checked(np.zeros((3, 2), dtype), io).shape == (3, 2)


@pytest.mark.parametrize(
    ("io", "dtype", "says"),
    [
        ("frame", np.uint16, "for uint8 frames, got uint16.*--io frame16`"),
        ("frame", np.float32, "for uint8 frames, got float32.*--io float`"),
        ("frame16", np.uint8, "for uint16 frames, got uint8.*to uint16.*--io frame`"),
        ("frame16", np.float32, "for uint16 frames, got float32.*--io float`"),
    ],
)
def test_other_depths_need_another_face(io: Io, dtype: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        checked(np.zeros((8, 8, 3), dtype), io)
