from __future__ import annotations

import gc
import logging
import sys
import threading

import numpy as np
import pytest
from fake_cuda import LEGACY, Error, FakeCuda, install

from allfocus.runtime import cudart
from allfocus.runtime.cudart import Device, Memory, PinnedMemory, Stream, load_runtime
from allfocus.runtime.errors import BackendError

U8 = np.dtype(np.uint8)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def device(cuda: FakeCuda) -> Device:
    return Device(cuda, 0)


def test_every_name_used_exists_in_cuda_python() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    fake = FakeCuda()
    for name in (n for n in dir(fake) if n.startswith("cuda")):
        assert hasattr(real, name), name
        if isinstance(kind := getattr(fake, name), type):
            for member in kind:
                assert int(getattr(getattr(real, name), member.name)) == member, member
    assert {"type", "device"} <= set(dir(real.cudaPointerAttributes()))
    assert "name" in dir(real.cudaDeviceProp)


def test_handles_of_cuda_python_are_integers_too() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    assert int(real.cudaStream_t(77)) == 77
    assert (int(real.cudaStreamLegacy), int(real.cudaStreamPerThread)) == (1, 2)
    # Plain integers are taken where a stream or a pointer is expected: no TypeError here.
    assert int(real.cudaMemcpyAsync(0, 0, 0, real.cudaMemcpyKind.cudaMemcpyDefault, 1)[0]) >= 0


def test_missing_cuda_python_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendError, match=r'cuda-python.*pip install "allfocus\[trt-rtx\]"'):
        load_runtime("trt-rtx")


def test_loads_the_module(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> None:
    install(monkeypatch, cuda)
    assert load_runtime("trt") is cuda


def test_device_says_what_it_is(device: Device) -> None:
    assert (device.target, device.name) == ("sm89", "Fake GPU")
    assert Device(FakeCuda(capability=(12, 0)), 0).target == "sm120"


def test_no_driver_is_said() -> None:
    cuda = FakeCuda()
    cuda.driver = 0
    cuda.failures["cudaGetDeviceCount"] = Error.cudaErrorInsufficientDriver
    with pytest.raises(BackendError, match=r'no NVIDIA driver.*backend="cpu"'):
        Device(cuda, 0)


def test_old_driver_is_said_with_its_cuda_version() -> None:
    cuda = FakeCuda()
    cuda.driver = 12040
    cuda.failures["cudaGetDeviceCount"] = Error.cudaErrorInsufficientDriver
    with pytest.raises(BackendError, match=r"cudaErrorInsufficientDriver.*CUDA 12\.4.*update"):
        Device(cuda, 0)


def test_no_gpu_is_said() -> None:
    with pytest.raises(BackendError, match=r"cudaErrorNoDevice.*nvidia-smi"):
        Device(FakeCuda(devices=0), 0)


def test_unknown_gpu_number_is_said() -> None:
    with pytest.raises(BackendError, match="GPU 2: CUDA sees 2 here, numbered from 0"):
        Device(FakeCuda(devices=2), 2)


def test_real_module_without_a_gpu_gives_a_backend_error() -> None:
    real = pytest.importorskip("cuda.bindings.runtime", reason="needs cuda-python")
    if real.cudaGetDeviceCount()[1]:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match="NVIDIA"):
        Device(real, 0)


def test_what_is_given_back_elsewhere_is_given_back_on_its_gpu() -> None:
    """A thread that made no call yet, such as a sink's, would start CUDA on GPU 0."""
    cuda = FakeCuda(devices=2)
    device = Device(cuda, 1)
    device.use()
    memory = Memory(device, 16)
    seen: list[tuple[str, int]] = []

    def elsewhere() -> None:
        before = len(cuda.calls)
        memory.free()
        seen.extend((name, cuda.device) for name in cuda.calls[before:])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [("cudaSetDevice", 1), ("cudaFree", 1)]


@pytest.mark.parametrize("works", [True, False])
def test_giving_back_leaves_a_thread_on_the_gpu_it_works_on(
    monkeypatch: pytest.MonkeyPatch, *, works: bool
) -> None:
    """Where CUDA runs there already: to put GPU 0 back would start it there otherwise."""
    monkeypatch.setattr(cudart, "thread_has_context", lambda: works)
    cuda = FakeCuda(devices=2)
    device = Device(cuda, 1)
    device.use()
    memory = Memory(device, 16)
    cuda.cudaSetDevice(0)
    memory.free()
    assert cuda.device == (0 if works else 1)
    assert not cuda.blocks


def test_nothing_is_collected_while_a_graph_is_captured(device: Device) -> None:
    """Memory that is freed in the capturing thread would end the recording."""
    stream = Stream(device)
    seen: list[bool] = []
    stream.capture(lambda: seen.append(gc.isenabled()))
    assert (seen, gc.isenabled()) == ([False], True)
    with pytest.raises(ZeroDivisionError):
        stream.capture(lambda: 1 // 0)
    assert gc.isenabled()


def test_a_failing_call_is_told_in_words_and_forgotten_by_cuda(
    cuda: FakeCuda, device: Device
) -> None:
    cuda.failures["cudaMalloc"] = Error.cudaErrorMemoryAllocation
    with pytest.raises(
        BackendError, match=r"cudaMalloc of 3\.0 MiB on GPU 0: cudaErrorMemoryAllocation \(fake"
    ):
        Memory(device, 3 << 20)
    assert cuda.cudaGetLastError() == (Error.cudaSuccess,)


def test_memory_is_freed_once_by_call_or_with_the_last_reference(
    cuda: FakeCuda, device: Device
) -> None:
    first, second, pinned = Memory(device, 8), Memory(device, 8), PinnedMemory(device, 8)
    assert cuda.left()["blocks"] == 3
    first.free()
    first.free()
    assert cuda.calls.count("cudaFree") == 1
    del first, second, pinned
    gc.collect()
    assert cuda.left()["blocks"] == 0


def test_failing_to_free_is_logged_not_raised(
    cuda: FakeCuda, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(device, 8)
    cuda.failures["cudaFree"] = Error.cudaErrorIllegalAddress
    with caplog.at_level(logging.WARNING, "allfocus"):
        memory.free()
    assert "cudaFree on GPU 0: cudaErrorIllegalAddress" in caplog.text


def test_owner_of_a_pointer(cuda: FakeCuda, device: Device) -> None:
    there = cuda.put(np.zeros(4, np.uint8), device=1)
    assert device.owner_of(there) == 1
    assert device.owner_of(there + 3) == 1
    assert device.owner_of(PinnedMemory(device, 4).pointer) is None
    assert device.owner_of(np.zeros(4).ctypes.data) is None


def test_copies_run_in_order_when_waited_for(cuda: FakeCuda, device: Device) -> None:
    stream, memory = Stream(device), Memory(device, 6)
    before, after = PinnedMemory(device, 6), PinnedMemory(device, 6)
    before.array((2, 3), U8)[:] = [[1, 2, 3], [4, 5, 6]]
    stream.copy(memory.pointer, before.pointer, 6)
    stream.copy(after.pointer, memory.pointer, 6)
    assert cuda.get(after.pointer, (6,), np.uint8).tolist() != [1, 2, 3, 4, 5, 6]
    stream.synchronize()
    assert after.array((6,), U8).tolist() == [1, 2, 3, 4, 5, 6]


def test_rows_are_copied_between_pitches(cuda: FakeCuda, device: Device) -> None:
    stream = Stream(device)
    source = cuda.put(np.arange(12, dtype=np.uint8))
    target = cuda.put(np.zeros(10, np.uint8))
    stream.copy_rows(target, 5, source, 4, 3, 2)
    stream.synchronize()
    assert cuda.get(target, (10,), np.uint8).tolist() == [0, 1, 2, 0, 0, 4, 5, 6, 0, 0]


@pytest.mark.parametrize("producer", ["its own", "legacy"])
def test_waits_for_another_stream_but_not_for_its_later_work(
    cuda: FakeCuda, device: Device, producer: str
) -> None:
    done: list[str] = []
    other = LEGACY if producer == "legacy" else cuda.new_stream()
    stream = Stream(device)
    cuda.later(other, lambda: done.append("before"))
    stream.wait_for(other)
    cuda.later(other, lambda: done.append("after"))
    cuda.later(stream.handle, lambda: done.append("mine"))
    stream.synchronize()
    assert done == ["before", "mine"]
    assert cuda.left()["events"] == 0


def test_event_is_given_back_where_recording_fails(cuda: FakeCuda, device: Device) -> None:
    stream = Stream(device)
    cuda.failures["cudaEventRecord"] = Error.cudaErrorInvalidValue
    with pytest.raises(BackendError, match="cudaEventRecord"):
        stream.wait_for(LEGACY)
    assert cuda.left()["events"] == 0


def test_capture_records_without_running_and_launches_as_a_whole(
    cuda: FakeCuda, device: Device
) -> None:
    done: list[int] = []
    stream = Stream(device)

    def work() -> None:
        cuda.later(stream.handle, lambda: done.append(1))
        cuda.later(stream.handle, lambda: done.append(2))

    graph = stream.capture(work)
    stream.synchronize()
    assert done == []
    graph.launch()
    graph.launch()
    assert done == []
    stream.synchronize()
    assert done == [1, 2, 1, 2]
    graph.destroy()
    assert cuda.left()["graphs"] == 0


def test_error_while_capturing_leaves_the_stream_usable(cuda: FakeCuda, device: Device) -> None:
    stream = Stream(device)

    def work() -> None:
        cuda.invalidate(stream.handle)
        raise BackendError("refused")

    with pytest.raises(BackendError, match="refused"):
        stream.capture(work)
    assert not cuda.recording(stream.handle)
    assert cuda.cudaGetLastError() == (Error.cudaSuccess,)
    stream.synchronize()
    assert cuda.left()["graphs"] == 0


def test_abandoned_capture_gives_the_recording_back(cuda: FakeCuda, device: Device) -> None:
    stream = Stream(device)

    def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream.capture(work)
    assert cuda.left()["graphs"] == 0


@pytest.mark.parametrize("function", ["cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_failed_capture_leaves_nothing(cuda: FakeCuda, device: Device, function: str) -> None:
    stream = Stream(device)
    cuda.failures[function] = Error.cudaErrorStreamCaptureInvalidated
    with pytest.raises(BackendError, match=function):
        stream.capture(lambda: None)
    assert cuda.left()["graphs"] == 0


def test_streams_and_graphs_go_with_their_last_reference(cuda: FakeCuda, device: Device) -> None:
    stream = Stream(device)
    graph = stream.capture(lambda: None)
    assert cuda.left() == {"blocks": 0, "streams": 1, "events": 0, "graphs": 1}
    del graph, stream
    gc.collect()
    assert set(cuda.left().values()) == {0}
