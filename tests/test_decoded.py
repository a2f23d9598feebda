"""Pictures of every face as colours, against OpenCV and against the export's own conversion."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from allfocus.export import as_faces, samples
from allfocus.runtime.decoded import colours
from allfocus.runtime.layout import as_frame
from allfocus.runtime.spec import Graph, Io, Matrix, Range, Size


def graph(io: Io, matrix: Matrix = "bt709", limits: Range = "limited") -> Graph:
    return Graph(io=io, precision="fp32", color="rgb", shapes=None, matrix=matrix, range=limits)


def test_luma_and_chroma_become_what_opencv_makes_of_them() -> None:
    rng = np.random.default_rng(1)
    smooth = cv2.resize(rng.integers(60, 190, (5, 6, 3), np.uint8), (48, 40))
    planar = cv2.cvtColor(smooth, cv2.COLOR_RGB2YUV_I420)
    frame = planar.copy()
    frame[40:] = np.dstack((planar[40:50].ravel(), planar[50:].ravel())).reshape(20, 48)
    expected = cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_NV12) / 255
    found = colours(frame, graph("nv12", "bt601"))
    assert (found.shape, found.dtype) == ((40, 48, 3), np.float32)
    assert np.abs(found - expected).max() < 0.06  # OpenCV repeats chroma
    assert np.abs(found - expected).mean() < 0.01


@pytest.mark.parametrize("io", ["nv12", "p010"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("limits", ["limited", "full"])
def test_a_photo_comes_back_from_every_kind_of_samples(
    io: Io, matrix: Matrix, limits: Range
) -> None:
    made = graph(io, matrix, limits)
    photo = samples.planes(samples.read_photo(Size(96, 64)))
    frame = as_frame("image", as_faces.given({"image": photo}, made)["image"], io)[0]
    found = colours(frame, made)
    rgb = np.asarray(photo)[0].transpose(1, 2, 0)
    assert np.abs(found - rgb).mean() < 0.01
    other: Range = "full" if limits == "limited" else "limited"
    assert np.abs(colours(frame, graph(io, matrix, other)) - rgb).mean() > 0.02


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colour_frames_are_scaled_only(dtype: type) -> None:
    white = 1.0 if dtype is np.float32 else float(np.iinfo(dtype).max)
    frame = (np.random.default_rng(0).random((6, 8, 3)) * white).astype(dtype)
    found = colours(frame, graph("float"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, frame / white, atol=1e-6)
