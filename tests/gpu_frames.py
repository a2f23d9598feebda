"""Frames in the memory of `fake_cuda`, as other libraries offer them."""

from __future__ import annotations

from typing import Any

import numpy as np
from fake_cuda import FakeCuda

from allfocus.runtime import dlpack


class GpuFrame:
    """A picture in GPU memory that still has to be written by its producer's stream."""

    def __init__(self, cuda: FakeCuda, array: np.ndarray[Any, Any], device: int = 0) -> None:
        self.stream = cuda.new_stream()
        self.pointer = cuda.put(np.zeros_like(array), device=device)
        self.host = np.ascontiguousarray(array)
        copy = cuda.cudaMemcpyKind.cudaMemcpyDefault
        cuda.cudaMemcpyAsync(self.pointer, self.host.ctypes.data, array.nbytes, copy, self.stream)
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": self.stream,
            "version": 3,
        }


class DlpackFrame:
    """A GpuFrame as a DLPack producer gives it."""

    def __init__(self, cuda: FakeCuda, frame: GpuFrame) -> None:
        self._cuda, self._frame = cuda, frame

    def __dlpack_device__(self) -> tuple[int, int]:
        return (dlpack.CUDA, 0)

    def __dlpack__(self, *, stream: int) -> Any:
        _, event = self._cuda.cudaEventCreateWithFlags(2)
        self._cuda.cudaEventRecord(event, self._frame.stream)
        self._cuda.cudaStreamWaitEvent(stream, event, 0)
        array = self._frame.host
        return dlpack.capsule(
            self._frame, self._frame.pointer, array.shape, array.dtype, (dlpack.CUDA, 0)
        )
