"""The two faces: exact where the net is the identity, and the same net in either colour order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from allfocus.export.faces import face
from allfocus.export.to_onnx import export, write
from allfocus.runtime.backend import Options
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Color, Graph, Io, Precision, Shapes, Size
from allfocus.train.checkpoint import random
from allfocus.train.models.base import Deblurrer, describe

LEVELS = np.arange(256, dtype=np.uint8)


class Same(Deblurrer):
    """Gives the image back, times `gain`; the map is the red channel less a half."""

    multiple, halos, max_radius = 1, {"whole": 0}, 1.0

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image * self.gain, image[:, :1] - 0.5


def graph(io: Io, precision: Precision, color: Color = "rgb") -> Graph:
    return Graph(io=io, precision=precision, color=color, shapes=Shapes.static(Size(8, 32)))


def all_levels() -> np.ndarray:
    """A frame [1, 32, 8, 3] with each level in each channel."""
    return np.stack([LEVELS, LEVELS[::-1], np.roll(LEVELS, 77)], axis=1).reshape(1, 32, 8, 3)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_level_passes_an_identity_unchanged(precision: Precision, color: Color) -> None:
    frame = all_levels()
    sharp, defocus = face(Same(1.0), graph("frame", precision, color))(torch.from_numpy(frame))
    assert sharp.dtype == torch.uint8
    np.testing.assert_array_equal(sharp.numpy(), frame)
    red = frame[..., 0 if color == "rgb" else 2].astype(np.float32) / 255
    assert (defocus.dtype, defocus.shape) == (torch.float32, (1, 32, 8))
    np.testing.assert_allclose(defocus.detach().numpy(), np.maximum(red - 0.5, 0), atol=5e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_level_passes_the_exported_graph_unchanged(
    tmp_path: Path, precision: Precision
) -> None:
    net = Same(1.0)
    spec = describe("didanet-tiny", net, version=1, weights="", weights_sha256="", license="")
    write(export(net, spec, graph("frame", precision, "bgr")), tmp_path / "same.onnx")
    with OrtBackend(tmp_path / "same.onnx", Options(threads=1)) as backend:
        np.testing.assert_array_equal(backend.infer(all_levels()).sharp, all_levels())


@pytest.mark.parametrize(("gain", "low", "high"), [(9.0, 0, 255), (-1.0, 0, 0)])
def test_a_frame_is_clipped_and_the_float_face_is_not(gain: float, low: int, high: int) -> None:
    frame = torch.from_numpy(all_levels())
    sharp, _ = face(Same(gain), graph("frame", "fp32"))(frame)
    assert (int(sharp.min()), int(sharp.max())) == (low, high)
    image = frame.permute(0, 3, 1, 2) / 255
    wide, defocus = face(Same(gain), graph("float", "fp32"))(image)
    torch.testing.assert_close(wide, gain * image)
    assert float(defocus.min()) == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_half_a_level_is_rounded_to_even(precision: Precision) -> None:
    frame = torch.full((1, 32, 8, 3), 5, dtype=torch.uint8)
    halved, _ = face(Same(0.5), graph("frame", precision))(frame)  # 2.5 levels
    assert halved.unique().tolist() == [2]


def test_both_orders_are_the_same_net() -> None:
    net, _ = random("didanet-tiny", 0)
    frame = torch.from_numpy(all_levels())
    rgb = face(net, graph("frame", "fp32"))(frame)
    bgr = face(net, graph("frame", "fp32", "bgr"))(frame.flip(3))
    assert torch.equal(rgb[0], bgr[0].flip(3))
    assert torch.equal(rgb[1], bgr[1])


def test_half_precision_leaves_the_callers_net_alone() -> None:
    net, _ = random("didanet-tiny", 0)
    made = face(net, graph("float", "fp16"))
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert {p.dtype for p in made.parameters()} == {torch.float16}
    sharp, defocus = made(torch.rand(1, 3, 32, 8))
    assert sharp.dtype == defocus.dtype == torch.float32
