"""Real engines: loaded where there is no GPU (and refused), run and compared where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from real_gpu import on_gpu

import allfocus
from allfocus.runtime.backend import Options
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.gpu import Gpu, find_gpus
from allfocus.runtime.manifest import Flavour, Manifest, read_manifest
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Io
from allfocus.runtime.trt import TrtBackend
from allfocus.runtime.trt_engine import FLAVOURS, LoadedEngine

RANGE = {"min": "64x64", "opt": "96x64", "max": "128x128"}


def build(folder: Path, flavour: Flavour, target: str | None, io: Io) -> Path:
    """An engine of didanet-tiny with random weights: 8-bit frames in fp16, floats in fp32."""
    pytest.importorskip("torch", reason="exporting needs torch")
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    from allfocus.export import plan, to_trt

    options = plan.Options(
        model="didanet-tiny",
        weights="random:1",
        precision="fp16" if io == "frame" else "fp32",
        io=io,
        backend=flavour,
        target=target,
        **RANGE,
    )
    made, _ = plan.make_plan(options)
    return Path(to_trt.export(made, out=folder / f"{flavour}-{io}")["engine"])


@pytest.fixture(scope="module")
def rtx_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    return build(tmp_path_factory.mktemp("rtx"), "tensorrt-rtx", "sm86,sm89", "frame")


def without_gpu() -> None:
    if find_gpus().devices:
        pytest.skip("this machine has a GPU")


@pytest.mark.rtx
def test_without_a_gpu_every_other_check_is_passed_first(rtx_engine: Path) -> None:
    without_gpu()
    with pytest.raises(BackendError, match="NVIDIA"):
        TrtBackend(rtx_engine, Options())


@pytest.mark.rtx
def test_without_a_gpu_rtx_itself_gives_its_reason(rtx_engine: Path) -> None:
    without_gpu()
    import tensorrt_rtx

    with pytest.raises(ArtefactError, match=r"cannot load it: .*(CUDA_ERROR|CUDA driver)"):
        LoadedEngine(rtx_engine, read_manifest(rtx_engine), tensorrt_rtx)


@pytest.mark.rtx
def test_engine_of_another_release_is_refused_without_a_gpu(rtx_engine: Path) -> None:
    beside = rtx_engine.with_suffix(".json")
    text = beside.read_text(encoding="utf-8")
    version = Manifest.from_json(text).flavour_version
    try:
        beside.write_text(text.replace(version, "1.0.0.21"), encoding="utf-8")
        with pytest.raises(ArtefactError, match=rf"1\.0\.0\.21, {version} is installed"):
            TrtBackend(rtx_engine, Options())
    finally:
        beside.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    found = find_gpus()
    if not found.devices:
        pytest.skip(found.reason)
    pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    return found.devices[0]


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def flavour(request: pytest.FixtureRequest, gpu: Gpu) -> Flavour:
    chosen: Flavour = request.param
    trt = pytest.importorskip(FLAVOURS[chosen].module, reason=f"needs {chosen}")
    if chosen == "tensorrt-rtx" and gpu.target.upper() not in trt.ComputeCapability.__members__:
        pytest.skip(f"TensorRT for RTX does not build for {gpu.target}")
    return chosen


@pytest.fixture(scope="module", params=["frame", "float"])
def engine(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    flavour: Flavour,
    gpu: Gpu,
) -> Path:
    target = gpu.target if flavour == "tensorrt-rtx" else None
    return build(tmp_path_factory.mktemp("engine"), flavour, target, request.param)


@pytest.fixture
def backend(engine: Path) -> Iterator[TrtBackend]:
    with TrtBackend(engine, Options()) as loaded:
        yield loaded


def photo(backend: TrtBackend, height: int, width: int, at: int = 0) -> np.ndarray[Any, Any]:
    """A part of the packaged photo in the graph's layout."""
    file = Path(allfocus.__file__).parent / "data" / "chelsea.png"
    part = cv2.imread(str(file))[at : at + height, at : at + width]
    if backend.graph.io == "frame":
        return np.ascontiguousarray(part)[None]
    return np.ascontiguousarray(part.transpose(2, 0, 1)[None] / np.float32(255))


def reference(backend: TrtBackend) -> OrtBackend:
    onnx = backend.artefact.with_name(read_manifest(backend.artefact).onnx)
    return OrtBackend(onnx, Options())


def assert_close(backend: TrtBackend, found: Any, expected: Any) -> None:
    """Frames within 2 levels; floats within what TF32 leaves of an fp32 convolution."""
    difference = np.abs(np.asarray(found, np.float64) - np.asarray(expected, np.float64)).max()
    assert difference <= (2 if backend.graph.io == "frame" else 5e-3)


def assert_maps_close(found: Any, expected: Any) -> None:
    assert np.abs(found - expected).max() <= 2e-2


@pytest.mark.gpu
def test_host_frames_agree_with_onnx_runtime(backend: TrtBackend) -> None:
    with reference(backend) as other:
        for turn in range(4):  # plain, captured, launched, launched
            image = photo(backend, 64, 96, at=turn)
            found, expected = backend.infer(image), other.infer(image)
            assert_close(backend, found.sharp, expected.sharp)
            assert_maps_close(found.defocus, expected.defocus)
    assert (backend.copies, backend.cuda_graph) == (3, True)


@pytest.mark.gpu
def test_sizes_may_change_from_frame_to_frame(backend: TrtBackend) -> None:
    with reference(backend) as other:
        for height, width in ((64, 64), (128, 128), (64, 64), (64, 64), (96, 128), (128, 128)):
            image = photo(backend, height, width)
            assert_close(backend, backend.infer(image).sharp, other.infer(image).sharp)


@pytest.mark.gpu
def test_two_streams_at_once_give_what_one_gives(engine: Path, backend: TrtBackend) -> None:
    sizes = ((64, 96), (128, 128), (64, 64))
    images = [photo(backend, *size, at=at) for at in range(4) for size in sizes]
    expected = [backend.infer(image) for image in images]
    with TrtBackend(engine, Options(streams=2)) as both, ThreadPoolExecutor(4) as pool:
        for _ in range(4):  # plain, captured, launched, launched
            for found, alone in zip(pool.map(both.infer, images), expected, strict=True):
                assert_close(backend, found.sharp, alone.sharp)
                assert_maps_close(found.defocus, alone.defocus)
        frames = [on_gpu(image) for image in images]
        for found, alone in zip(pool.map(both.infer_device, frames), expected, strict=True):
            assert_close(backend, found.sharp.to_host(), alone.sharp)
        assert both.cuda_graph


@pytest.mark.gpu
def test_without_graphs_the_result_is_the_same(engine: Path, backend: TrtBackend) -> None:
    image = photo(backend, 64, 96)
    with TrtBackend(engine, Options(cuda_graph=False)) as plain:
        assert not plain.cuda_graph
        for _ in range(3):
            assert_close(backend, plain.infer(image).sharp, backend.infer(image).sharp)


@pytest.mark.gpu
def test_device_frames_agree_with_host_frames(backend: TrtBackend) -> None:
    for turn in range(3):
        image = photo(backend, 64, 96, at=turn)
        found, expected = backend.infer_device(on_gpu(image)), backend.infer(image)
        assert_close(backend, found.sharp.to_host(), expected.sharp)
        assert found.defocus is not None
        assert_maps_close(found.defocus.to_host(), expected.defocus)


@pytest.mark.gpu
def test_device_frames_are_padded_and_cropped(backend: TrtBackend) -> None:
    image = photo(backend, 67, 90)
    if backend.graph.io == "frame":
        padded = cv2.copyMakeBorder(image[0], 0, 1, 0, 2, cv2.BORDER_REFLECT_101)[None]
    else:
        padded = np.pad(image, ((0, 0), (0, 0), (0, 1), (0, 2)), mode="reflect")
    found = backend.infer_device(on_gpu(image)).sharp
    whole = backend.infer(padded).sharp
    part = whole[:, :67, :90] if backend.graph.io == "frame" else whole[..., :67, :90]
    assert found.shape == image.shape
    assert_close(backend, found.to_host(), part)


@pytest.mark.gpu
def test_torch_gives_frames_and_takes_results(backend: TrtBackend) -> None:
    torch = pytest.importorskip("torch", reason="needs torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a torch built for CUDA")
    image = photo(backend, 64, 96)
    with torch.cuda.stream(torch.cuda.Stream()):
        frame = torch.from_numpy(image).cuda(non_blocking=True) * 1
        result = torch.from_dlpack(backend.infer_device(frame).sharp)
        assert_close(backend, result.cpu().numpy(), backend.infer(image).sharp)


@pytest.mark.gpu
def test_cupy_gives_frames_and_takes_results(backend: TrtBackend) -> None:
    cupy = pytest.importorskip("cupy", reason="needs cupy")
    image = photo(backend, 64, 96)
    with cupy.cuda.Stream(non_blocking=True):
        result = cupy.asarray(backend.infer_device(cupy.asarray(image)).sharp)
        assert_close(backend, cupy.asnumpy(result), backend.infer(image).sharp)
