"""Real engines for frames of 16 bits and of luma and chroma, where there is a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_gpu import on_gpu

from allfocus.runtime import canary
from allfocus.runtime.backend import Options
from allfocus.runtime.form import form_of
from allfocus.runtime.gpu import find_gpus
from allfocus.runtime.layout import as_frame, as_tensor
from allfocus.runtime.manifest import Flavour, read_manifest
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Io, Size
from allfocus.runtime.tiling import Window
from allfocus.runtime.trt import TrtBackend
from allfocus.runtime.trt_engine import FLAVOURS

Array = np.ndarray[Any, Any]

RANGE = {"min": "64x64", "opt": "96x64", "max": "128x128"}


@pytest.fixture(params=["tensorrt", "tensorrt-rtx"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    found = find_gpus()
    if not found.devices:
        pytest.skip(found.reason)
    pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    chosen: Flavour = request.param
    trt = pytest.importorskip(FLAVOURS[chosen].module, reason=f"needs {chosen}")
    target = found.devices[0].target
    if chosen == "tensorrt-rtx" and target.upper() not in trt.ComputeCapability.__members__:
        pytest.skip(f"TensorRT for RTX does not build for {target}")
    return chosen


def build(folder: Path, flavour: Flavour, io: Io, **options: Any) -> TrtBackend:
    pytest.importorskip("torch", reason="exporting needs torch")
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    from allfocus.export import plan, to_trt

    target = find_gpus().devices[0].target if flavour == "tensorrt-rtx" else None
    made, _ = plan.make_plan(plan.Options(io=io, backend=flavour, target=target, **options))
    return TrtBackend(Path(to_trt.export(made, out=folder)["engine"]), Options())


def off(found: Array, expected: Array) -> float:
    """The largest difference, where 1 is white."""
    white = np.iinfo(found.dtype).max
    return float(np.abs(found.astype(np.float64) - expected).max() / white)


@pytest.mark.gpu
@pytest.mark.parametrize("io", ["frame16", "nv12", "p010"])
def test_host_and_device_frames_agree_with_onnx_runtime(
    tmp_path: Path, flavour: Flavour, io: Io
) -> None:
    options = {"model": "didanet-tiny", "weights": "random:1", **RANGE}
    form = form_of("image", io)
    with build(tmp_path, flavour, io, **options) as backend:
        onnx = backend.artefact.with_name(read_manifest(backend.artefact).onnx)
        (tensor,) = canary.draw(backend.graph, Size(96, 64), 0).values()
        found = as_frame("sharp", backend.infer(tensor).sharp, io)
        with OrtBackend(onnx, Options()) as other:
            expected = as_frame("sharp", other.infer(tensor).sharp, io)
        assert off(found, expected) <= 2 / 255
        (tensor,) = canary.draw(backend.graph, Size(90, 66), 0).values()
        frame = np.ascontiguousarray(as_frame("image", tensor, io)[0])
        seen = backend.infer_device(on_gpu(frame)).sharp
        assert (seen.shape, seen.dtype) == (frame.shape, frame.dtype)
        grown = as_tensor("image", form.grown(frame, Size(92, 68))[None], io)
        whole = as_frame("sharp", backend.infer(grown).sharp, io)[0]
        assert off(seen.to_host(), form.cut(whole, Window(0, 0, 90, 66))) <= 2 / 255


@pytest.mark.gpu
@pytest.mark.parametrize("io", ["frame16", "nv12", "p010"])
def test_what_is_in_focus_stays_to_the_bit(tmp_path: Path, flavour: Flavour, io: Io) -> None:
    """Whatever the engine fuses, half precision included."""
    with build(tmp_path, flavour, io, model="didanet-lite", size="128x96") as backend:
        (tensor,) = canary.draw(backend.graph, Size(128, 96), 0).values()
        outputs = backend.infer(tensor)
        before, after = (as_frame("image", each, io)[0] for each in (tensor, outputs.sharp))
        focused = outputs.defocus[0] * backend.spec.max_radius <= 0.4
        assert focused.mean() > 0.2
        height = focused.shape[0]
        np.testing.assert_array_equal(after[:height][focused], before[:height][focused])
