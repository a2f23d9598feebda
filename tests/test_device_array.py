from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from fake_cuda import LEGACY, FakeCuda

from allfocus.runtime import dlpack
from allfocus.runtime.cudart import Device, Memory, Stream
from allfocus.runtime.device_array import DeviceArray, view
from allfocus.runtime.errors import InputError


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(devices=2)


@pytest.fixture
def stream(cuda: FakeCuda) -> Stream:
    return Stream(Device(cuda, 0))


class CaiFrame:
    """What Numba and PyCUDA offer."""

    def __init__(self, pointer: int, shape: tuple[int, ...], **changes: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "|u1",
            "data": (pointer, False),
            "version": 3,
            **changes,
        }


class DlpackFrame:
    """What PyTorch, CuPy and JAX offer: the producer makes our stream wait for its own."""

    def __init__(self, cuda: FakeCuda, pointer: int, shape: tuple[int, ...], device: Any) -> None:
        self.cuda, self.pointer, self.shape, self.device = cuda, pointer, shape, device
        self.asked: list[int] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device

    def __dlpack__(self, *, stream: int) -> Any:
        self.asked.append(stream)
        return dlpack.capsule(
            self, self.pointer, self.shape, np.dtype(np.uint8), self.__dlpack_device__()
        )


def array_of(values: np.ndarray[Any, Any], stream: Stream) -> DeviceArray:
    memory = Memory(stream.device, values.nbytes)
    stream.copy(memory.pointer, values.ctypes.data, values.nbytes)
    stream.synchronize()
    return DeviceArray(memory, values.shape, values.dtype)


def test_device_array_offers_both_protocols(stream: Stream) -> None:
    array = array_of(np.arange(6, dtype=np.float32).reshape(2, 3), stream)
    assert (array.shape, array.ndim, array.nbytes, array.dtype) == ((2, 3), 2, 24, np.float32)
    assert array.__cuda_array_interface__ == {
        "shape": (2, 3),
        "typestr": "<f4",
        "data": (array.pointer, False),
        "strides": None,
        "stream": None,
        "version": 3,
    }
    assert array.__dlpack_device__() == (dlpack.CUDA, 0)
    capsule = array.__dlpack__(stream=7, max_version=(1, 0), dl_device=(2, 0), copy=False)
    tensor = dlpack.read(capsule)
    assert (tensor.pointer, tensor.shape, tensor.strides) == (array.pointer, (2, 3), (12, 4))
    assert (tensor.dtype, tensor.device) == (np.float32, (2, 0))
    assert repr(array) == "DeviceArray(float32 [2, 3] on GPU 0)"


def test_device_array_refuses_what_it_cannot_export(stream: Stream) -> None:
    array = array_of(np.zeros(3, np.uint8), stream)
    with pytest.raises(BufferError, match="not to device"):
        array.__dlpack__(dl_device=(dlpack.CPU, 0))
    with pytest.raises(BufferError, match="without a copy"):
        array.__dlpack__(copy=True)


def test_device_array_comes_to_the_host(stream: Stream, cuda: FakeCuda) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = array_of(values, stream)
    assert np.array_equal(array.to_host(), values)
    gc.collect()
    assert cuda.left()["streams"] == 1


def test_memory_lives_until_the_last_consumer_is_gone(stream: Stream, cuda: FakeCuda) -> None:
    array = array_of(np.zeros(3, np.uint8), stream)
    capsule = array.__dlpack__()
    del array
    gc.collect()
    assert cuda.left()["blocks"] == 1
    del capsule
    gc.collect()
    assert cuda.left()["blocks"] == 0


def test_a_result_can_be_a_frame_again(stream: Stream) -> None:
    array = array_of(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), stream)
    seen = view(array, stream)
    assert (seen.pointer, seen.shape, seen.strides) == (array.pointer, (1, 2, 3), (6, 3, 1))


@pytest.mark.parametrize("kind", [dlpack.CUDA, dlpack.CUDA_MANAGED])
def test_dlpack_producer_is_given_our_stream(cuda: FakeCuda, stream: Stream, kind: int) -> None:
    frame = DlpackFrame(cuda, cuda.put(np.zeros(12, np.uint8)), (2, 2, 3), (kind, 0))
    seen = view(frame, stream)
    assert frame.asked == [stream.handle]
    assert (seen.pointer, seen.shape, seen.strides) == (frame.pointer, (2, 2, 3), (6, 3, 1))


def test_what_a_producer_made_for_the_capsule_lives_as_long_as_the_view(
    cuda: FakeCuda, stream: Stream
) -> None:
    class Lazy(DlpackFrame):
        def __dlpack__(self, *, stream: int) -> Any:
            made = Memory(device, 12)
            return dlpack.capsule(made, made.pointer, self.shape, np.dtype(np.uint8), self.device)

    device = stream.device
    seen = view(Lazy(cuda, 0, (2, 2, 3), (dlpack.CUDA, 0)), stream)
    gc.collect()
    assert cuda.left()["blocks"] == 1
    del seen
    gc.collect()
    assert cuda.left()["blocks"] == 0


def test_dlpack_comes_before_the_array_interface(cuda: FakeCuda, stream: Stream) -> None:
    frame = DlpackFrame(cuda, cuda.put(np.zeros(12, np.uint8)), (2, 2, 3), (dlpack.CUDA, 0))
    frame.__cuda_array_interface__ = {"version": 2}  # type: ignore[attr-defined]
    assert view(frame, stream).shape == (2, 2, 3)


def test_dlpack_frame_on_another_gpu_is_refused_before_any_stream_is_touched(
    cuda: FakeCuda, stream: Stream
) -> None:
    frame = DlpackFrame(cuda, cuda.put(np.zeros(12, np.uint8)), (2, 2, 3), (dlpack.CUDA, 1))
    with pytest.raises(InputError, match=r"GPU 1, the engine runs on GPU 0.*device=1"):
        view(frame, stream)
    assert frame.asked == []


def test_a_producer_that_refuses_is_quoted(cuda: FakeCuda, stream: Stream) -> None:
    class Trained(DlpackFrame):
        def __dlpack__(self, *, stream: int) -> Any:
            raise BufferError("Can't export tensors that require gradient")

    frame = Trained(cuda, 0, (), (dlpack.CUDA, 0))
    with pytest.raises(InputError, match=r"require gradient.*detach"):
        view(frame, stream)


def test_host_arrays_are_sent_to_the_other_door(stream: Stream) -> None:
    with pytest.raises(InputError, match="ndarray is not in GPU memory"):
        view(np.zeros((4, 4, 3), np.uint8), stream)
    with pytest.raises(InputError, match=r"__dlpack__ or __cuda_array_interface__, got str"):
        view("frame", stream)


@pytest.mark.parametrize("stride", [None, (8, 3, 1)])
def test_array_interface_is_read(cuda: FakeCuda, stream: Stream, stride: Any) -> None:
    frame = CaiFrame(cuda.put(np.zeros(16, np.uint8)), (2, 2, 3), strides=stride)
    seen = view(frame, stream)
    assert (seen.shape, seen.strides, seen.dtype) == ((2, 2, 3), stride or (6, 3, 1), np.uint8)
    assert seen.keeper is frame


@pytest.mark.parametrize("default", [LEGACY, 2])
@pytest.mark.parametrize("version", [2, 3])
def test_without_a_stream_both_default_ones_are_waited_for(
    cuda: FakeCuda, stream: Stream, default: int, version: int
) -> None:
    """PyCUDA says None, which is to mean finished, whatever it still works on."""
    done: list[str] = []
    cuda.later(default, lambda: done.append("produced"))
    pointer = cuda.put(np.zeros(3, np.uint8))
    view(CaiFrame(pointer, (1, 1, 3), version=version, stream=None), stream)
    stream.synchronize()
    assert done == ["produced"]


def test_the_producers_stream_is_waited_for(cuda: FakeCuda, stream: Stream) -> None:
    pointer = cuda.put(np.zeros(3, np.uint8))
    target = cuda.put(np.zeros(3, np.uint8))
    producer = cuda.new_stream()
    seven = np.full(3, 7, np.uint8)
    cuda.cudaMemcpyAsync(pointer, seven.ctypes.data, 3, cuda.cudaMemcpyKind(4), producer)
    seen = view(CaiFrame(pointer, (1, 1, 3), stream=producer), stream)
    stream.copy(target, seen.pointer, 3)
    stream.synchronize()
    assert cuda.get(target, (3,), np.uint8).tolist() == [7, 7, 7]


def test_stream_0_is_refused_as_ambiguous(cuda: FakeCuda, stream: Stream) -> None:
    with pytest.raises(InputError, match="stream 0"):
        view(CaiFrame(cuda.put(np.zeros(3, np.uint8)), (1, 1, 3), stream=0), stream)


def test_masks_are_refused(cuda: FakeCuda, stream: Stream) -> None:
    with pytest.raises(InputError, match="masked"):
        view(CaiFrame(cuda.put(np.zeros(3, np.uint8)), (1, 1, 3), mask=object()), stream)


def test_array_interface_on_another_gpu_or_the_host_is_refused(
    cuda: FakeCuda, stream: Stream
) -> None:
    with pytest.raises(InputError, match="memory of GPU 1, the engine runs on GPU 0"):
        view(CaiFrame(cuda.put(np.zeros(3, np.uint8), device=1), (1, 1, 3)), stream)
    with pytest.raises(InputError, match="host memory"):
        view(CaiFrame(np.zeros(3, np.uint8).ctypes.data, (1, 1, 3)), stream)


def test_empty_frames_have_no_address_to_check(stream: Stream) -> None:
    assert view(CaiFrame(0, (0, 4, 3)), stream).shape == (0, 4, 3)
