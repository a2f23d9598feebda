"""The faces of 16 bits and of luma and chroma: what a net leaves alone comes out to the bit, and
what it changes is what the standards say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from allfocus.export import as_faces, samples
from allfocus.export.builder import build_engine
from allfocus.export.deep_faces import YuvFace
from allfocus.export.faces import face
from allfocus.export.flavour import DEFAULT_TARGETS, Target
from allfocus.export.to_onnx import export, of_graph, write
from allfocus.export.weights import parse
from allfocus.runtime.backend import Options
from allfocus.runtime.layout import as_frame, as_tensor, layout
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Graph, Io, Matrix, Precision, Range, Shapes, Size
from allfocus.train.checkpoint import random
from allfocus.train.models.base import Deblurrer, describe

DEEP: list[Io] = ["frame16", "nv12", "p010"]
PRECISIONS: list[Precision] = ["fp32", "fp16"]
SIZE = Size(128, 96)
SMALL = Shapes.static(Size(64, 48))
RANGE = Shapes(Size(32, 32), Size(64, 48), Size(128, 96))

Array = np.ndarray[Any, Any]


class Shifted(Deblurrer):
    """Gives the image back plus `shift`, one number a channel."""

    multiple, halos, max_radius = 1, {"whole": 0}, 1.0

    def __init__(self, *shift: float) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift or (0.0,) * 3).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image + self.shift, image[:, :1]


def graph(io: Io, precision: Precision = "fp32", size: Size = SIZE, **options: Any) -> Graph:
    fields = {"color": "rgb", "shapes": Shapes.static(size), **options}
    return Graph(io=io, precision=precision, **fields)


def every_sample(io: Io, size: Size = SIZE) -> Array:
    """A tensor of random bytes; with 16 bits and enough samples, of each number at least one."""
    shape = as_frame("image", np.zeros(layout("image", io).shape(size), np.uint8), io)
    count = 256 if shape.dtype == np.uint8 else 65536
    values = np.random.default_rng(0).permutation(shape.size) % count
    return as_tensor("image", values.astype(shape.dtype).reshape(shape.shape), io)


def run(net: Deblurrer, made: Graph, tensor: Array) -> Array:
    """The sharp picture as callers have it, without a leading 1."""
    with torch.inference_mode():
        sharp = face(net, made)(torch.from_numpy(tensor))[0].numpy()
    return as_frame("sharp", sharp, made.io)[0]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("io", DEEP)
def test_what_a_net_leaves_alone_comes_out_to_the_bit(io: Io, precision: Precision) -> None:
    """All samples there are, of legal colours and others, and p010's low bits too."""
    tensor = every_sample(io, Size(256, 192))
    given = as_frame("image", tensor, io)[0]
    assert np.unique(given).size == np.iinfo(given.dtype).max + 1
    color = "bgr" if io == "frame16" else "rgb"
    made = graph(io, precision, Size(256, 192), color=color)
    np.testing.assert_array_equal(run(Shifted(), made, tensor), given)


@pytest.mark.parametrize("io", DEEP)
def test_so_it_does_in_the_exported_graph(tmp_path: Path, io: Io) -> None:
    net = Shifted()
    made = graph(io, "fp16", size=Size(64, 48))
    spec = describe("didanet-tiny", net, version=1, weights="", weights_sha256="", license="")
    write(export(net, of_graph(spec, net, made), made), tmp_path / "same.onnx")
    tensor = every_sample(io, Size(64, 48))
    with OrtBackend(tmp_path / "same.onnx", Options(threads=1)) as backend:
        assert backend.spec.multiple == (1 if io == "frame16" else 2)
        np.testing.assert_array_equal(backend.infer(tensor).sharp, tensor)


def partly_blurred(made: Graph) -> Array:
    """The package's photo, the lower third out of focus, as the face has it."""
    photo = samples.read_photo(SIZE)
    below = 2 * SIZE.height // 3
    photo[below:] = cv2.GaussianBlur(photo, (0, 0), 2.5)[below:]
    return as_faces.given({"image": samples.planes(photo)}, made)["image"]


def check_focused(made: Graph, tensor: Array, sharp: Array, defocus: Array) -> None:
    """What is in focus is as it came, and something else is not."""
    before, after = (as_frame("image", each, made.io)[0] for each in (tensor, sharp))
    focused = defocus[0] * 8 <= 0.95  # of the one pixel up to which the net adds nothing
    assert 0.2 < focused.mean() < 0.95
    if made.io != "frame16":
        pairs = focused.reshape(48, 2, 64, 2).all((1, 3)).repeat(2, axis=1)  # interleaved chroma
        focused = np.concatenate([focused, pairs])
    np.testing.assert_array_equal(after[focused], before[focused])
    assert (after != before).mean() > 0.01


@pytest.mark.parametrize("io", DEEP)
def test_what_is_in_focus_stays_to_the_bit(io: Io) -> None:
    """didanet-lite adds nothing there."""
    net, _ = parse(None, "didanet-lite").load("didanet-lite")
    made = graph(io)
    tensor = partly_blurred(made)
    with torch.inference_mode():
        found = face(net.eval(), made)(torch.from_numpy(tensor))
    check_focused(made, tensor, *(each.numpy() for each in found))


def test_so_it_does_in_an_exported_graph_of_half_precision(tmp_path: Path) -> None:
    """The net gets rounded colours, and what it does not change cancels all the same."""
    net, spec = parse(None, "didanet-lite").load("didanet-lite")
    made = graph("nv12", "fp16")
    tensor = partly_blurred(made)
    write(export(net.eval(), of_graph(spec, net, made), made), tmp_path / "lite.onnx")
    with OrtBackend(tmp_path / "lite.onnx", Options(threads=1)) as backend:
        outputs = backend.infer(tensor)
    assert outputs.defocus is not None
    check_focused(made, tensor, outputs.sharp, outputs.defocus)


@pytest.mark.parametrize("limits", get_args(Range))
@pytest.mark.parametrize("matrix", get_args(Matrix))
@pytest.mark.parametrize("io", ["nv12", "p010"])
def test_the_net_sees_what_the_standards_say(io: Io, matrix: Matrix, limits: Range) -> None:
    made = graph(io, size=Size(96, 64), matrix=matrix, range=limits)
    tensor = every_sample(io, Size(96, 64))
    shown = face(Shifted(), made)
    assert isinstance(shown, YuvFace)
    expected = as_faces.seen({"image": tensor}, made)["image"]
    torch.testing.assert_close(shown.picture(torch.from_numpy(tensor)), expected, atol=2e-6, rtol=0)


def test_its_colours_are_opencvs() -> None:
    """OpenCV's conversion is that of BT.601 in limited range, in whole numbers."""
    rng = np.random.default_rng(1)
    frame = rng.integers(100, 160, (96, 64), np.uint8)
    made = graph("nv12", size=Size(64, 64), matrix="bt601")
    shown = face(Shifted(), made)
    assert isinstance(shown, YuvFace)
    rgb = shown.picture(torch.from_numpy(frame[None]))[0].permute(1, 2, 0).numpy() * 255
    expected = cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_NV12)
    assert np.abs(rgb - expected).max() < 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_change_is_the_matrix_times_it(precision: Precision) -> None:
    """Grey, and 0.1 of red more: rows of BT.709, 219 and 224 steps of 8 bits."""
    tensor = np.full((1, 6, 4), 128, np.uint8)
    found = run(Shifted(0.1, 0.0, 0.0), graph("nv12", precision, size=Size(4, 4)), tensor)
    assert np.unique(found[:4]).tolist() == [128 + round(0.1 * 0.2126 * 219)]
    blue, red = -0.2126 / (2 * (1 - 0.0722)), 0.5
    assert np.unique(found[4:, ::2]).tolist() == [128 + round(0.1 * blue * 224)]
    assert np.unique(found[4:, 1::2]).tolist() == [128 + round(0.1 * red * 224)]


@pytest.mark.parametrize(("shift", "end"), [(9.0, 235), (-9.0, 16)])
def test_legal_black_and_white_are_the_ends_of_a_change(shift: float, end: int) -> None:
    """Samples beyond them, which decoders do give, are moved as far as the nearest legal one."""
    tensor = np.full((1, 6, 4), 128, np.uint8)
    tensor[0, 0] = [16, 235, 5, 250]
    found = run(Shifted(shift, shift, shift), graph("nv12", size=Size(4, 4)), tensor)
    moved = end - np.array([16, 235, 16, 235]) + tensor[0, 0]
    assert found[0].tolist() == np.clip(moved, 0, 255).tolist()
    assert np.unique(found[1:4]).tolist() == [end]
    assert np.unique(found[4:]).tolist() == [128]


def test_sixteen_bits_are_rounded_and_clipped() -> None:
    frame = np.array([[[0, 1, 255], [256, 257, 65535]]], np.uint16)
    tensor = as_tensor("image", frame[None], "frame16")
    step = 10.4 / 65535
    for shift, expected in (
        (step, [[10, 11, 265], [266, 267, 65535]]),
        (9.0, [[65535] * 3] * 2),
        (-9.0, [[0] * 3] * 2),
    ):
        found = run(Shifted(shift, shift, shift), graph("frame16", size=Size(2, 1)), tensor)
        assert found[0].tolist() == expected


def test_the_bytes_of_p010_are_ten_bits_above_six() -> None:
    frame = np.full((3, 2), 512 << 6, np.uint16)
    frame[:2] = 600 << 6
    tensor = as_tensor("image", frame[None], "p010")
    net = Shifted(*[4.2 / 876] * 3)  # 4.2 levels of 10 bits in limited range
    found = run(net, graph("p010", size=Size(2, 2)), tensor)
    assert np.unique(found[:2] >> 6).tolist() == [604]
    assert not (found & 63).any()
    odd = as_tensor("image", (frame + 5)[None], "p010")
    assert np.unique(run(net, graph("p010", size=Size(2, 2)), odd) & 63).tolist() == [5]


@given(
    io=st.sampled_from(DEEP),
    shift=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    matrix=st.sampled_from(get_args(Matrix)),
    limits=st.sampled_from(get_args(Range)),
)
def test_any_change_is_that_of_the_reference(
    io: Io, shift: tuple[float, float, float], matrix: Matrix, limits: Range
) -> None:
    made = graph(io, size=Size(16, 16), matrix=matrix, range=limits)
    before = {"image": every_sample(io, Size(16, 16))}
    net = Shifted(*shift)
    with torch.inference_mode():
        expected = {"sharp": net(as_faces.seen(before, made)["image"])[0]}
    wanted = as_frame("sharp", as_faces.answered(expected, before, made)["sharp"], io)[0]
    found = run(net, made, before["image"])
    step = 64 if io == "p010" else 1
    assert np.abs(found.astype(int) - wanted).max() <= step  # at ties between two levels


@pytest.mark.rtx
@pytest.mark.parametrize(("io", "shapes"), [("frame16", SMALL), ("nv12", RANGE), ("p010", SMALL)])
def test_an_engine_for_rtx_is_built(tmp_path: Path, io: Io, shapes: Shapes) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    net, spec = random("didanet-tiny", 0)
    made = graph(io, "fp16", shapes=shapes)
    write(export(net.eval(), of_graph(spec, net, made), made), tmp_path / "x.onnx")
    target = Target(flavour="tensorrt-rtx", version="", targets=DEFAULT_TARGETS, gpu="")
    assert len(build_engine(tmp_path / "x.onnx", made, target).data) > 100_000
