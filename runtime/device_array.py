"""Arrays in GPU memory: results that any array library can take, and frames from any of them.

Nothing here is copied to the host, and no array library is imported:

- CuPy: `cupy.asarray(result.image)`, or `cupy.from_dlpack(result.image)`
- PyTorch: `torch.from_dlpack(result.image)`, or `torch.as_tensor(result.image, device="cuda")`
- Numba: `numba.cuda.as_cuda_array(result.image)`
- PyCUDA: `GPUArray(image.shape, image.dtype, gpudata=image.pointer, base=image)`; it must use the
  GPU's primary context as all the others do: import `pycuda.autoprimaryctx`, not `autoinit`
- JAX: `jax.dlpack.from_dlpack(result.image)`

A result is finished when it is handed over, so it may be used on any stream at once. Its memory
lives as long as anything that was made from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from allfocus.runtime import dlpack
from allfocus.runtime.cudart import Memory, Stream
from allfocus.runtime.errors import InputError

_DEFAULT_STREAMS = (1, 2)  # CUDA's own handles: the one of all threads, and the thread's own


class DeviceArray:
    """A C-contiguous array in GPU memory of its own, with both exchange protocols.

    `shape`, `dtype`, `nbytes` and `ndim` are those of a NumPy array; `pointer` is its address and
    `device` the number of its GPU.
    """

    def __init__(self, memory: Memory, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.ndim = len(shape)
        self.nbytes = math.prod(shape) * self.dtype.itemsize
        self.device = memory.device.index
        self.pointer = memory.pointer
        self._memory = memory

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype} {list(self.shape)} on GPU {self.device})"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 of the protocol; no stream to wait for, as the array is finished."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": None,
            "version": 3,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CUDA, self.device)

    def __dlpack__(
        self,
        *,
        stream: int | None = None,  # the array is finished: no stream need wait
        max_version: tuple[int, int] | None = None,  # an older one may be given
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        here = self.__dlpack_device__()
        if dl_device is not None and tuple(dl_device) != here:
            raise BufferError(f"{self!r} is exported where it is, not to device {dl_device}")
        if copy:
            raise BufferError(f"{self!r} is exported without a copy: copy what you make of it")
        return dlpack.capsule(self, self.pointer, self.shape, self.dtype, here)

    def to_host(self) -> NDArray[Any]:
        """A copy in host memory."""
        host = np.empty(self.shape, self.dtype)
        self._copy(host.ctypes.data, self.pointer)
        return host

    def from_host(self, host: NDArray[Any]) -> None:
        """Write over it with an array of its shape and type, whatever was made from it."""
        if (host.shape, host.dtype) != (self.shape, self.dtype):
            raise InputError(f"expected {self!r}, got {host.dtype} {list(host.shape)}")
        host = np.ascontiguousarray(host)
        self._copy(self.pointer, host.ctypes.data)

    def _copy(self, target: int, source: int) -> None:
        """All of it, between its own memory and another."""
        self._memory.device.use()
        stream = Stream(self._memory.device)
        try:
            stream.copy(target, source, self.nbytes)
            stream.synchronize()
        finally:
            stream.destroy()


@dataclass(frozen=True, kw_only=True)
class DeviceView:
    """Somebody else's array in GPU memory; strides in bytes. `keeper` keeps it alive."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    keeper: object

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)} with strides of {list(self.strides)} bytes"


def view(frame: Any, stream: Stream) -> DeviceView:
    """Look at `frame` where it lies; work queued on `stream` from now on finds it finished.

    DLPack comes first, for its producer orders the streams itself; `__cuda_array_interface__` is
    for Numba, PyCUDA and older libraries. Raises InputError for anything that is not in the memory
    of the stream's GPU.
    """
    if hasattr(frame, "__dlpack__") and hasattr(frame, "__dlpack_device__"):
        return _through_dlpack(frame, stream)
    if hasattr(frame, "__cuda_array_interface__"):
        return _through_interface(frame, stream)
    raise InputError(
        f"expected an array in GPU memory with __dlpack__ or __cuda_array_interface__, got "
        f"{type(frame).__name__}"
    )


def _through_dlpack(frame: Any, stream: Stream) -> DeviceView:
    kind, index = (int(part) for part in frame.__dlpack_device__())
    if kind not in (dlpack.CUDA, dlpack.CUDA_MANAGED):
        raise InputError(
            f"{type(frame).__name__} is not in GPU memory (DLPack device type {kind}): give host "
            "frames as NumPy arrays"
        )
    if kind == dlpack.CUDA:
        _check_device(frame, index, stream)
    try:
        capsule = frame.__dlpack__(stream=stream.handle)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{type(frame).__name__} cannot be shared through DLPack ({error}); for a PyTorch "
            "tensor that takes part in training give tensor.detach()"
        ) from error
    tensor = dlpack.read(capsule)
    return DeviceView(
        pointer=tensor.pointer,
        shape=tensor.shape,
        strides=tensor.strides,
        dtype=tensor.dtype,
        keeper=(frame, capsule),
    )


def _through_interface(frame: Any, stream: Stream) -> DeviceView:
    interface = frame.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise InputError(f"{type(frame).__name__}: masked arrays are not taken; give plain pixels")
    pointer = int(interface["data"][0])
    shape = tuple(int(extent) for extent in interface["shape"])
    dtype = np.dtype(interface["typestr"])
    if pointer:  # 0 where the array is empty
        _check_device(frame, stream.device.owner_of(pointer), stream)
    _wait(interface, stream)
    steps = [step * dtype.itemsize for step in dlpack.contiguous(shape)]
    return DeviceView(
        pointer=pointer,
        shape=shape,
        strides=tuple(int(step) for step in interface.get("strides") or steps),
        dtype=dtype,
        keeper=frame,
    )


def _wait(interface: dict[str, Any], stream: Stream) -> None:
    """Wait for the producer's stream.

    None means finished. But PyCUDA says it of whatever its default stream still works on, and Numba
    too; and before version 3 nothing named a stream. Then it is both default streams, which costs
    two events.
    """
    producer = interface.get("stream") if interface.get("version", 0) >= 3 else None
    if producer == 0:
        raise InputError(
            "frame with stream 0 in its __cuda_array_interface__, which the protocol forbids as "
            "ambiguous: expected None (finished), 1 (legacy default stream), 2 (per-thread default "
            "stream) or a stream's handle"
        )
    for each in _DEFAULT_STREAMS if producer is None else (int(producer),):
        stream.wait_for(each)


def _check_device(frame: Any, found: int | None, stream: Stream) -> None:
    expected = stream.device.index
    if found != expected:
        place = "host memory" if found is None else f"the memory of GPU {found}"
        raise InputError(
            f"{type(frame).__name__} is in {place}, the engine runs on GPU {expected}: copy it "
            f"there, or load with device={found or 0}"
        )
