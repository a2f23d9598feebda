"""The parity check: passes what is right, and refuses each way of being wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import allfocus
from allfocus.export import to_onnx
from allfocus.export.samples import Arrays, read_photo
from allfocus.export.tolerance import tolerance
from allfocus.export.verify import compare, verify
from allfocus.runtime.catalogue import entry
from allfocus.runtime.errors import ParityError
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import Color, Graph, Io, Precision, Shapes, Size
from allfocus.train.checkpoint import random

if TYPE_CHECKING:
    from conftest import Exported


def graph(io: Io, precision: Precision, color: Color = "rgb") -> Graph:
    return Graph(io=io, precision=precision, color=color, shapes=Shapes.static(Size(96, 64)))


def outputs(io: Io, sharp: float = 0.0, where: Any = ..., defocus: float = 0.0) -> Arrays:
    """Half-grey outputs of 100x100, `sharp` off at the samples `where`, the map `defocus` off."""
    shape = (1, 3, 100, 100) if io == "float" else (1, 100, 100, 3)
    image = np.full(shape, 128.0 if io == "frame" else 0.5)
    image.reshape(-1)[where] += sharp
    dtype = np.uint8 if io == "frame" else np.float32
    plane = np.full((1, 1, 100, 100) if io == "float" else (1, 100, 100), 0.25 + defocus)
    return {"sharp": image.astype(dtype), "defocus": plane.astype(np.float32)}


@pytest.mark.parametrize("io", ["float", "frame"])
def test_the_right_graph_passes(tiny: Exported, io: Io) -> None:
    color: Color = "rgb" if io == "float" else "bgr"
    figures = verify(
        getattr(tiny, io), tiny.net, Graph(io=io, precision="fp32", color=color, shapes=None)
    )
    assert figures["max_abs"] <= (1e-4 if io == "float" else 1 / 255)
    assert figures["mean_abs"] <= figures["max_abs"]
    assert figures["psnr_db"] >= 75
    assert figures["defocus_max_abs"] <= 1e-4


@pytest.mark.parametrize(
    ("io", "phase"), [("frame16", "whole"), ("nv12", "restore"), ("p010", "whole")]
)
def test_other_faces_pass_and_another_matrix_or_order_does_not(
    tmp_path: Path, io: Io, phase: Phase
) -> None:
    net, spec = random("didanet-tiny", 0)
    made = replace(graph(io, "fp16"), phase=phase, signature=entry("didanet-tiny").signature(phase))
    path = tmp_path / "tiny.onnx"
    to_onnx.write(to_onnx.export(net.eval(), to_onnx.of_graph(spec, net, made), made), path)
    figures = verify(path, net, made)
    assert figures["psnr_db"] > 65
    assert figures["max_abs"] <= 2 / 255
    other = replace(made, color="bgr") if io == "frame16" else replace(made, matrix="bt601")
    with pytest.raises(ParityError, match="is too far"):
        verify(path, net, other, fp16_db=70.0)


@pytest.mark.parametrize(("io", "floor"), [("float", 60.0), ("frame", 55.0)])
def test_half_precision_is_within_its_tolerance(tmp_path: Path, io: Io, floor: float) -> None:
    net, spec = random("didanet-tiny", 0)
    path = tmp_path / "tiny.onnx"
    to_onnx.write(to_onnx.export(net.eval(), spec, graph(io, "fp16")), path)
    figures = verify(path, net, graph(io, "fp16"))
    assert floor <= figures["psnr_db"] < 100  # it is half precision indeed
    assert figures["defocus_psnr_db"] >= 60


def test_a_changed_weight_is_refused(tiny: Exported, tmp_path: Path) -> None:
    model = onnx.load(str(tiny.float))
    (bias,) = (t for t in model.graph.initializer if t.name == "restorer.tail.bias")
    value = numpy_helper.to_array(bias) + np.float32(1e-3)
    bias.CopyFrom(numpy_helper.from_array(value, bias.name))
    onnx.save(model, str(tmp_path / "changed.onnx"))
    with pytest.raises(ParityError, match=r"'sharp' is too far.*max_abs 0\.001.*allowed.*0\.0001"):
        verify(tmp_path / "changed.onnx", tiny.net, replace(graph("float", "fp32"), shapes=None))


def test_exchanged_colours_are_refused(tiny: Exported) -> None:
    said = Graph(io="frame", precision="fp32", color="rgb", shapes=None)  # the file is BGR
    with pytest.raises(ParityError, match="'sharp' is too far"):
        verify(tiny.frame, tiny.net, said)


def test_overflow_in_half_precision_is_refused_with_advice(tmp_path: Path) -> None:
    net, spec = random("didanet-tiny", 0)
    with torch.no_grad():  # larger than float16 can hold, and undone by the next layer
        net.get_parameter("restorer.body.weight").mul_(1e6)
        net.get_parameter("restorer.tail.weight").mul_(1e-6)
    path = tmp_path / "tiny.onnx"
    to_onnx.write(to_onnx.export(net.eval(), spec, graph("float", "fp16")), path)
    with pytest.raises(ParityError, match=r"ONNX graph's 'sharp' holds NaN.*--precision fp32"):
        verify(path, net, graph("float", "fp16"))


def test_a_net_that_gives_nan_is_refused(tiny: Exported) -> None:
    net, _ = random("didanet-tiny", 1)
    with torch.no_grad():
        net.get_parameter("estimator.tail.bias").fill_(float("nan"))
    with pytest.raises(ParityError, match=r"PyTorch net's '.*' holds NaN"):
        verify(tiny.float, net.eval(), replace(graph("float", "fp32"), shapes=None))


@pytest.mark.parametrize(
    ("io", "precision", "found"),
    [
        ("float", "fp32", outputs("float", 0.99e-4)),
        ("float", "fp16", outputs("float", 0.99e-3)),
        ("float", "fp16", outputs("float", 0.1, slice(0, 1))),  # a single sample may be far off
        ("frame", "fp32", outputs("frame", -1, slice(0, 29))),
        ("frame", "fp16", outputs("frame", 1, slice(0, 6000))),
        ("frame", "fp16", outputs("frame", -2, slice(0, 1500))),
        ("float", "fp32", outputs("float", defocus=0.99e-4)),
        ("frame", "fp16", outputs("frame", defocus=0.99e-3)),
    ],
)
def test_within_tolerance(io: Io, precision: Precision, found: Arrays) -> None:
    figures = compare(found, outputs(io), graph(io, precision))
    assert all(np.isfinite(value) for value in figures.values())


@pytest.mark.parametrize(
    ("io", "precision", "found"),
    [
        ("float", "fp32", outputs("float", 1.01e-4, slice(0, 1))),
        ("float", "fp16", outputs("float", 1.01e-3)),
        ("frame", "fp32", outputs("frame", -1, slice(0, 31))),
        ("frame", "fp32", outputs("frame", 2, slice(0, 1))),
        ("frame", "fp16", outputs("frame", 1, slice(0, 6500))),
        ("frame", "fp16", outputs("frame", 3, slice(0, 1))),
        ("float", "fp32", outputs("float", defocus=1.01e-4)),
        ("frame", "fp32", outputs("frame", defocus=1.01e-4)),
        ("frame", "fp16", outputs("frame", defocus=1.01e-3)),
    ],
)
def test_over_tolerance(io: Io, precision: Precision, found: Arrays) -> None:
    with pytest.raises(ParityError, match="too far"):
        compare(found, outputs(io), graph(io, precision))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_single_value_that_is_no_number(value: float) -> None:
    for name in ("sharp", "defocus"):
        found = outputs("float")
        found[name][0, 0, 3, 4] = value
        with pytest.raises(ParityError, match=f"'{name}' holds NaN or infinity"):
            compare(found, outputs("float"), graph("float", "fp16"))


def test_another_shape_is_refused() -> None:
    found = outputs("float")
    found["sharp"] = found["sharp"][..., 1:]
    with pytest.raises(ParityError, match=r"\[1, 3, 100, 99\]"):
        compare(found, outputs("float"), graph("float", "fp32"))


def test_equal_outputs_have_a_finite_psnr() -> None:
    assert compare(outputs("frame"), outputs("frame"), graph("frame", "fp32"))["psnr_db"] == 200


def test_tolerances_of_both_faces_are_one_demand() -> None:
    """A normal error of 60 dB, rounded to levels, is the frame face's 55 dB."""
    rng = np.random.default_rng(0)
    exact = rng.uniform(20, 235, (1, 200, 200, 3))
    rounded = np.rint(exact + rng.normal(0, 255e-3, exact.shape)) - np.rint(exact)
    psnr = -10 * np.log10(np.mean((rounded / 255) ** 2))
    limit = tolerance(graph("frame", "fp16"), "sharp", 60.0).psnr_db
    assert limit is not None
    assert abs(psnr - limit) < 0.5


@settings(max_examples=30)
@given(width=st.integers(1, 1200), height=st.integers(1, 900))
def test_the_photo_has_any_size(width: int, height: int) -> None:
    photo = read_photo(Size(width, height))
    assert (photo.shape, photo.dtype) == ((height, width, 3), np.uint8)


def test_the_photo_is_the_packages_in_rgb() -> None:
    path = Path(allfocus.__file__).parent / "data" / "chelsea.png"
    whole = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(read_photo(Size(451, 300)), whole)
    np.testing.assert_array_equal(read_photo(Size(51, 100)), whole[100:200, 200:251])
    np.testing.assert_array_equal(read_photo(Size(453, 300))[:, 451:], whole[:, [449, 448]])
