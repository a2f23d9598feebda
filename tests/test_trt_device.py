from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fake_cuda
import fake_trt
import numpy as np
import pytest
from engine_files import engine_file, picture
from fake_cuda import Error, FakeCuda, out_of_memory
from fake_trt import FakeTrt, net
from gpu_frames import DlpackFrame, GpuFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import allfocus
from allfocus.runtime import dlpack
from allfocus.runtime.backend import Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import BackendError, InputError, LimitError
from allfocus.runtime.form import form_of, pad
from allfocus.runtime.layout import as_frame, channels_last
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import IOS, YUV, Io, Size
from allfocus.runtime.trt import TrtBackend

CHECKER = Path(allfocus.__file__).parent / "data" / "jdrl-reblur.onnx"


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch, FakeCuda(devices=2))


@pytest.fixture(autouse=True)
def trt(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeTrt:
    return fake_trt.install(monkeypatch, "tensorrt", cuda, "10.13.2.6")


def load(path: Path, **options: Any) -> TrtBackend:
    return TrtBackend(path, Options(**options))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    io=st.sampled_from(IOS),
    size=st.builds(Size, st.integers(1, 21), st.integers(1, 21)),
    batched=st.booleans(),
    protocol=st.sampled_from(["interface", "dlpack"]),
)
def test_device_frames_of_any_size_give_what_the_host_gives(
    tmp_path: Path, cuda: FakeCuda, io: Io, size: Size, batched: bool, protocol: str
) -> None:
    size = size.padded(2) if io in YUV else size
    image = picture(io, size)
    given = as_frame("image", image, io)
    with load(engine_file(tmp_path, io=io)) as backend:
        frame: Any = GpuFrame(cuda, given if batched else given[0])
        if protocol == "dlpack":
            frame = DlpackFrame(cuda, frame)
        outputs = backend.infer_device(frame)
        sharp, defocus = net(image)
        sharp = as_frame("sharp", sharp, io)
        for result, expected in ((outputs.sharp, sharp), (outputs.defocus, defocus)):
            wanted = expected if batched else expected[0]
            assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype)
            assert np.array_equal(result.to_host(), wanted)
        assert (backend.copies, backend.calls) == (0, 1)


def test_device_frame_is_padded_as_on_the_host(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    image = picture("frame", Size(7, 5))[0]
    backend.infer_device(GpuFrame(cuda, image))
    with backend._lanes.one() as lane:
        pass
    seen = cuda.get(lane.runner.address("image"), (8, 8, 3), np.uint8)
    assert np.array_equal(seen, pad(image, Size(8, 8)))


@pytest.mark.parametrize("io", ["nv12", "p010"])
def test_luma_and_chroma_are_padded_each_for_itself(tmp_path: Path, cuda: FakeCuda, io: Io) -> None:
    backend = load(engine_file(tmp_path, io=io))
    frame = as_frame("image", picture(io, Size(6, 10)), io)[0]
    backend.infer_device(GpuFrame(cuda, frame))
    with backend._lanes.one() as lane:
        seen = cuda.get(lane.runner.address("image"), (18, 8), frame.dtype)
    assert np.array_equal(seen, form_of("image", io).grown(frame, Size(8, 12)))


def test_no_byte_of_a_device_frame_goes_through_the_host(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    frame = GpuFrame(cuda, picture("frame", Size(8, 8))[0])
    cuda.calls.clear()
    backend.infer_device(frame)
    assert "cudaMallocHost" not in cuda.calls
    assert "cudaMemcpyAsync" not in cuda.calls  # the one kind of copy that crosses over here
    assert cuda.calls.count("cudaStreamSynchronize") == 1


def test_device_results_own_their_memory(tmp_path: Path, cuda: FakeCuda) -> None:
    images = [picture("frame", Size(8, 8), seed) for seed in range(3)]
    with load(engine_file(tmp_path)) as backend:
        results = [backend.infer_device(GpuFrame(cuda, image)) for image in images]
    for image, outputs in zip(images, results, strict=True):  # after closing, too
        assert np.array_equal(outputs.sharp.to_host(), 255 - image)
    frames = len(images)
    assert cuda.left()["blocks"] == frames + 2 * len(results)
    del results, outputs
    gc.collect()
    assert cuda.left()["blocks"] == frames


def test_host_and_device_frames_take_turns(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    for seed in range(4):
        image = picture("frame", Size(8, 8), seed)
        assert np.array_equal(backend.infer(image).sharp, 255 - image)
        shared = backend.infer_device(GpuFrame(cuda, image))
        assert np.array_equal(shared.sharp.to_host(), 255 - image)
    assert cuda.calls.count("cudaGraphLaunch") == 7


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((8, 8, 4), np.uint8, r"takes uint8 \[H, W, 3\]"),
        ((8, 8, 3), np.float32, r"takes uint8 \[H, W, 3\]"),
        ((3, 8, 8), np.uint8, r"takes uint8 \[H, W, 3\]"),
        ((68, 8, 3), np.uint8, "takes at most 64x64"),
    ],
)
def test_unfit_device_frames_are_refused(
    tmp_path: Path, cuda: FakeCuda, shape: Any, dtype: Any, reason: str
) -> None:
    backend = load(engine_file(tmp_path))
    with pytest.raises(InputError, match=reason):
        backend.infer_device(GpuFrame(cuda, np.zeros(shape, dtype)))
    assert backend.calls == 0
    good = picture("frame", Size(8, 8))
    assert np.array_equal(backend.infer_device(GpuFrame(cuda, good)).sharp.to_host(), 255 - good)


def test_frame_on_another_gpu_is_refused(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    frame = GpuFrame(cuda, picture("frame", Size(8, 8)), device=1)
    with pytest.raises(InputError, match=r"memory of GPU 1, the engine runs on GPU 0"):
        backend.infer_device(frame)


def test_second_gpu_runs_its_own_frames_in_any_thread(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path), device=1)
    with backend._lanes.one() as lane:
        assert cuda.streams[lane.stream.handle].device == 1
    frame = GpuFrame(cuda, picture("frame", Size(8, 8)), device=1)
    with ThreadPoolExecutor(1) as pool:
        outputs = pool.submit(backend.infer_device, frame).result()
    assert outputs.sharp.__dlpack_device__() == (dlpack.CUDA, 1)
    assert cuda.cudaPointerGetAttributes(outputs.sharp.pointer)[1].device == 1


def test_no_copy_of_a_frame_is_left_running_after_an_error(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt
) -> None:
    backend = load(engine_file(tmp_path))
    trt.fail.add("execute")
    with pytest.raises(BackendError):
        backend.infer_device(GpuFrame(cuda, picture("frame", Size(8, 8))))
    assert not any(stream.queue for stream in cuda.streams.values())


def test_what_goes_wrong_first_is_what_is_told(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt, caplog: pytest.LogCaptureFixture
) -> None:
    backend = load(engine_file(tmp_path))
    trt.fail.add("execute")
    cuda.failures["cudaStreamSynchronize"] = Error.cudaErrorIllegalAddress
    with pytest.raises(BackendError, match="TensorRT cannot run the engine"):
        backend.infer_device(GpuFrame(cuda, picture("frame", Size(8, 8))))
    assert "after that, CUDA: cudaStreamSynchronize" in caplog.text
    cuda.failures.clear()


def test_out_of_gpu_memory_for_the_result_is_told(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    image = picture("frame", Size(8, 8))
    backend.infer(image)
    frame = GpuFrame(cuda, image)
    out_of_memory(cuda)
    with pytest.raises(BackendError, match="cudaMalloc of 0"):
        backend.infer_device(frame)
    cuda.failures.clear()
    assert np.array_equal(backend.infer_device(frame).sharp.to_host(), 255 - image)


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((13, 8), np.uint8, r"13 rows are not a multiple of 3.*H must be even"),
        ((12, 7), np.uint8, "7 columns are odd"),
        ((12, 8), np.uint16, r"uint8 \[3H/2, W\], got uint16 \[12, 8\].*--io p010"),
        ((8, 8, 3), np.uint8, "colour frame.*--io frame"),
        ((66, 66), np.uint8, "takes at most 64x64"),
    ],
)
def test_unfit_decoded_frames_are_refused(
    tmp_path: Path, cuda: FakeCuda, shape: Any, dtype: Any, reason: str
) -> None:
    backend = load(engine_file(tmp_path, io="nv12"))
    with pytest.raises(InputError, match=reason):
        backend.infer_device(GpuFrame(cuda, np.zeros(shape, dtype)))


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_decoded_frames_go_in_whatever_the_color(
    tmp_path: Path, cuda: FakeCuda, color: Any
) -> None:
    image = picture("nv12", Size(6, 6))[0]
    with Deblurrer(load(engine_file(tmp_path, io="nv12")), color=color) as deblur:
        again = deblur(deblur(GpuFrame(cuda, image)).image)
        assert np.array_equal(again.image.to_host(), image)


def test_deblurrer_passes_device_frames_on(tmp_path: Path, cuda: FakeCuda) -> None:
    image = picture("frame", Size(7, 6))[0]
    with Deblurrer(load(engine_file(tmp_path)), color="rgb") as deblur:
        result = deblur(GpuFrame(cuda, image))
        again = deblur(result.image)  # a result is a frame too
        assert np.array_equal(again.image.to_host(), image)


@pytest.mark.parametrize("io", IOS)
@pytest.mark.parametrize("fallback", [None, 0.5])
@pytest.mark.parametrize("batched", [True, False])
def test_outputs_on_a_gpu_are_checked_as_those_on_the_host(
    tmp_path: Path, cuda: FakeCuda, io: Io, fallback: float | None, batched: bool
) -> None:
    frame = as_frame("image", picture(io, Size(14, 12)), io)
    checker = OrtBackend(CHECKER, Options(threads=1))
    backend = load(engine_file(tmp_path, io=io))
    with Deblurrer(backend, color="rgb", checker=checker, fallback=fallback) as deblur:
        expected = deblur(channels_last(frame[0], io))
        found = deblur(GpuFrame(cuda, frame if batched else frame[0]))
        shape = frame.shape if batched else frame.shape[1:]
        assert found.image.shape == shape
        shown = found.image.to_host().reshape(frame.shape[1:])
        np.testing.assert_array_equal(channels_last(shown, io), expected.image)
        assert found.trust is not None
        assert expected.trust is not None
        np.testing.assert_array_equal(found.trust, expected.trust)
        assert found.copies == (2 if fallback is None else 3)
        assert found.timings["check"] > 0


def test_no_frame_on_a_gpu_is_begun_without_room_to_check_it(
    tmp_path: Path, cuda: FakeCuda
) -> None:
    checker = OrtBackend(CHECKER, Options(threads=1))
    checker.bytes_per_pixel = 1e9
    backend = load(engine_file(tmp_path))
    with Deblurrer(backend, color="rgb", checker=checker, memory="1MB") as deblur:
        with pytest.raises(LimitError, match="memory budget of 977 KiB is too small"):
            deblur(GpuFrame(cuda, picture("frame", Size(14, 12))))
        assert backend.calls == 0


def test_a_result_is_written_over_by_what_fits_it_alone(tmp_path: Path, cuda: FakeCuda) -> None:
    image = picture("frame", Size(8, 6))
    with load(engine_file(tmp_path)) as backend:
        sharp = backend.infer_device(GpuFrame(cuda, image)).sharp
        sharp.from_host(image[:, :, ::-1])  # not contiguous
        np.testing.assert_array_equal(sharp.to_host(), image[:, :, ::-1])
        for wrong in (image[0], image.astype(np.int8)):
            with pytest.raises(InputError, match=r"expected DeviceArray\(uint8 \[1, 6, 8, 3\] on"):
                sharp.from_host(wrong)
