"""A net that estimates no defocus, all the way: faces, ONNX, parity, engine, runtime, training."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import allfocus
from allfocus import cli
from allfocus.benchmarks import demo
from allfocus.export import to_onnx
from allfocus.export.builder import build_engine
from allfocus.export.faces import face
from allfocus.export.flavour import Target
from allfocus.export.verify import compare, verify
from allfocus.runtime.errors import ParityError
from allfocus.runtime.layout import layout
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Graph, Io, Precision, Shapes, Size
from allfocus.train.data import find, make_samples
from allfocus.train.models.base import Deblurrer, describe
from allfocus.train.synthetic import Recipe
from allfocus.train.validate import validate

SIZE = Size(64, 48)


class Mapless(Deblurrer):
    """One convolution, added to the image."""

    multiple, halos = 1, {"whole": 1}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        sharp: Tensor = image + self.conv(image)
        return sharp, None


def graph_of(io: Io, precision: Precision, shapes: Shapes | None) -> Graph:
    signature = Signature(("image",), ("sharp",))
    return Graph(io=io, precision=precision, color="rgb", shapes=shapes, signature=signature)


def exported(path: Path, graph: Graph) -> Path:
    net = Mapless().eval()
    spec = describe("didanet-tiny", net, version=1, weights="", weights_sha256="", license="")
    to_onnx.write(to_onnx.export(net, spec, graph), path)
    return path


@pytest.fixture(params=["frame", "float"])
def any_size(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return exported(tmp_path / "mapless.onnx", graph_of(request.param, "fp32", None))


@pytest.mark.parametrize("io", ["frame", "float"])
def test_a_face_gives_no_map_either(io: Io) -> None:
    wanted = layout("image", io)
    image = torch.from_numpy(np.zeros(wanted.shape(SIZE), wanted.dtype))
    (sharp,) = face(Mapless(), graph_of(io, "fp16", None))(image)
    assert sharp.shape == image.shape


def test_the_graph_has_one_output(any_size: Path) -> None:
    assert [output.name for output in onnx.load(any_size).graph.output] == ["sharp"]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("io", ["frame", "float"])
def test_parity_is_that_of_the_picture_alone(tmp_path: Path, io: Io, precision: Precision) -> None:
    graph = graph_of(io, precision, Shapes.static(SIZE))
    figures = verify(exported(tmp_path / "mapless.onnx", graph), Mapless().eval(), graph)
    expected = {"max_abs", "mean_abs", "psnr_db"}
    assert set(figures) == expected | ({"float16_psnr_db"} if precision == "fp16" else set())


def test_a_map_on_one_side_only_is_refused() -> None:
    image = np.zeros((1, 3, 8, 8), np.float32)
    without, having = {"sharp": image}, {"sharp": image, "defocus": image[:, :1]}
    for found, expected in ((without, having), (having, without)):
        with pytest.raises(ParityError, match=r"the ONNX graph gives sharp.*the PyTorch net sharp"):
            compare(found, expected, graph_of("float", "fp32", None))


def test_the_runtime_gives_none(any_size: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (13, 22, 3), np.uint8)
    with allfocus.load(any_size, backend="cpu") as deblur:
        result = deblur(frame)
        assert deblur.spec.max_radius == 0
    assert result.image.shape == frame.shape
    assert result.defocus is None


def test_deblur_refuses_to_write_a_map(
    any_size: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, out = tmp_path / "in.png", tmp_path / "out.png"
    assert cv2.imwrite(str(photo), np.zeros((13, 22, 3), np.uint8))
    options = ["deblur", str(photo), "-o", str(out), "--model", str(any_size), "--backend", "cpu"]
    assert cli.main([*options, "--map"]) == 2
    assert "estimates no defocus" in capsys.readouterr().err
    assert not out.exists()
    assert cli.main(options) == 0
    assert out.exists()


def test_the_demo_shows_two_panels(any_size: Path, tmp_path: Path) -> None:
    made = demo.deblur(str(any_size), np.zeros((60, 200, 3), np.uint8))
    assert made.defocus is None
    demo.write_picture(tmp_path / "panels.png", made)
    panels = cv2.imread(str(tmp_path / "panels.png"))
    assert panels is not None
    assert panels.shape[1] == 2 * 200 + 3 * 12


@pytest.mark.rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_an_engine_builds(tmp_path: Path, precision: Precision) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    graph = graph_of("frame", precision, Shapes.static(SIZE))
    file = exported(tmp_path / "mapless.onnx", graph)
    target = Target(flavour="tensorrt-rtx", version="", targets=("sm89",), gpu="")
    assert build_engine(file, graph, target).data


def test_validation_tells_radii_apart_without_a_map(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels)
    report = validate(Mapless(), make_samples(find(tmp_path), 32, 0, Recipe()), 6)
    assert report.map_mae is None
    assert "map" not in report.line()
    assert sum(band.share for band in report.bands) == pytest.approx(1)
    assert sum(band.share > 0 for band in report.bands) > 1
