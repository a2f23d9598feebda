"""One GPU's memory, streams and graphs, over NVIDIA's `cuda.bindings.runtime` (cuda-python).

Every call that fails raises BackendError, except those that give something back: these log a
warning, for they run where an error has nowhere to go. `Device.use` makes the GPU the calling
thread's current device and leaves it so: putting the former one back could start CUDA on that GPU
too, which costs hundreds of megabytes there. What gives back puts it back, where CUDA runs there.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import BackendError
from allfocus.runtime.gpu import thread_has_context

log = logging.getLogger("allfocus")

_MIB = 1 << 20


def load_runtime(extra: str) -> Any:
    """The module `cuda.bindings.runtime`; `extra` is what installs it with the engine."""
    try:
        return import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise BackendError(
            f'cuda-python cannot be imported ({error}): pip install "allfocus[{extra}]"'
        ) from error


class Device:
    """The GPU number `index`, as CUDA counts those that it may see."""

    def __init__(self, runtime: Any, index: int) -> None:
        self.runtime = runtime
        self.index = index
        count = self._count()
        if index >= count:
            raise BackendError(f"GPU {index}: CUDA sees {count} here, numbered from 0")
        attributes = runtime.cudaDeviceAttr
        major = self._attribute(attributes.cudaDevAttrComputeCapabilityMajor)
        minor = self._attribute(attributes.cudaDevAttrComputeCapabilityMinor)
        self.target = f"sm{major}{minor}"  # compute capability, as manifests name it
        self.name = str(self.call("cudaGetDeviceProperties", index).name.decode())

    def call(self, function: str, *arguments: Any) -> Any:
        """Call a function of the CUDA runtime; its one result, or None where it has none."""
        error, *values = getattr(self.runtime, function)(*arguments)
        if int(error) != 0:
            size = f" of {arguments[0] / _MIB:.1f} MiB" if "Malloc" in function else ""
            raise BackendError(f"CUDA: {function}{size} on GPU {self.index}: {self._tell(error)}")
        return values[0] if values else None

    def release(self, function: str, handle: Any) -> None:
        """Give back what `call` made, from whatever thread.

        One that has no current device yet, such as that of a garbage collection, would start CUDA
        on GPU 0. One that works on another GPU goes on there: it did not ask for this.
        """
        former = self._left()
        self.use_to_release()
        self._try(function, handle)
        if former is not None:
            self._try("cudaSetDevice", former)

    def _left(self) -> int | None:
        """The other GPU that the calling thread works on, if it does: CUDA runs there already."""
        error, current = self.runtime.cudaGetDevice()
        if int(error) != 0 or current == self.index or not thread_has_context():
            return None
        return int(current)

    def use(self) -> None:
        """Make this GPU the calling thread's current device."""
        self.call("cudaSetDevice", self.index)

    def use_to_release(self) -> None:
        """The same before things are given back, where an error has nowhere to go."""
        self._try("cudaSetDevice", self.index)

    def _try(self, function: str, argument: Any) -> None:
        """Call a function without a result; an error is logged."""
        error = getattr(self.runtime, function)(argument)[0]
        if int(error) != 0:
            log.warning("CUDA: %s on GPU %d: %s", function, self.index, self._tell(error))

    def owner_of(self, pointer: int) -> int | None:
        """The number of the GPU that `pointer` belongs to; None where it is host memory."""
        attributes = self.call("cudaPointerGetAttributes", pointer)
        kinds = self.runtime.cudaMemoryType
        on_gpu = (kinds.cudaMemoryTypeDevice, kinds.cudaMemoryTypeManaged)
        return int(attributes.device) if attributes.type in on_gpu else None

    def _count(self) -> int:
        error, count = self.runtime.cudaGetDeviceCount()
        if int(error) == 0 and count:
            return int(count)
        _, version = self.runtime.cudaDriverGetVersion()
        if not version:
            raise BackendError(
                'no NVIDIA driver: this engine needs an NVIDIA GPU; without one use backend="cpu"'
            )
        reason = self._tell(error) if int(error) else "no GPU"
        raise BackendError(
            f"no usable NVIDIA GPU ({reason}; the driver supports CUDA "
            f"{version // 1000}.{version % 1000 // 10}): see what `nvidia-smi` and "
            "CUDA_VISIBLE_DEVICES say; where the driver is too old, update it or install the "
            'cuda-python of its CUDA version; or use backend="cpu"'
        )

    def _attribute(self, attribute: Any) -> int:
        return int(self.call("cudaDeviceGetAttribute", attribute, self.index))

    def _tell(self, error: Any) -> str:
        """`error` in words. CUDA forgets it, so that no other library takes it for its own."""
        self.runtime.cudaGetLastError()
        name = self.runtime.cudaGetErrorName(error)[1].decode()
        return f"{name} ({self.runtime.cudaGetErrorString(error)[1].decode()})"


class Memory:
    """Bytes in GPU memory: freed by `free`, or with the last reference to this object.

    cudaFree waits for all work on the GPU, so nothing that still runs loses its memory.
    """

    _allocate: ClassVar[str] = "cudaMalloc"
    _free: ClassVar[str] = "cudaFree"

    def __init__(self, device: Device, nbytes: int) -> None:
        self.device = device
        self.nbytes = nbytes
        self.pointer = int(device.call(self._allocate, nbytes))
        self.free = _finalizer(self, device.release, self._free, self.pointer)


class PinnedMemory(Memory):
    """Bytes in host memory that the GPU reads and writes directly."""

    _allocate = "cudaMallocHost"
    _free = "cudaFreeHost"

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """The first bytes as an array. It does not keep this memory alive."""
        held = memoryview((ctypes.c_uint8 * self.nbytes).from_address(self.pointer))
        return np.frombuffer(held, dtype, math.prod(shape)).reshape(shape)


class Stream:
    """A queue of work on one GPU, independent of the default streams."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._copy_kind = device.runtime.cudaMemcpyKind.cudaMemcpyDefault  # told by the pointers
        flags = device.runtime
        self.handle = int(device.call("cudaStreamCreateWithFlags", flags.cudaStreamNonBlocking))
        self.destroy = _finalizer(self, device.release, "cudaStreamDestroy", self.handle)

    def wait_for(self, other: int) -> None:
        """Start no later work before what now stands in the stream with the handle `other`."""
        call = self.device.call
        event = call("cudaEventCreateWithFlags", self.device.runtime.cudaEventDisableTiming)
        try:
            call("cudaEventRecord", event, other)
            call("cudaStreamWaitEvent", self.handle, event, 0)
        finally:
            self.device.release("cudaEventDestroy", event)  # lives on until it is reached

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Queue a copy between two addresses on the GPU or in pinned memory."""
        self.device.call("cudaMemcpyAsync", target, source, nbytes, self._copy_kind, self.handle)

    def copy_rows(
        self, target: int, target_pitch: int, source: int, source_pitch: int, width: int, rows: int
    ) -> None:
        """Queue a copy of `rows` rows of `width` bytes; pitches are bytes from row to row."""
        self.device.call(
            "cudaMemcpy2DAsync",
            *(target, target_pitch, source, source_pitch, width, rows),
            *(self._copy_kind, self.handle),
        )

    def synchronize(self) -> None:
        """Wait until all queued work is done."""
        self.device.call("cudaStreamSynchronize", self.handle)

    def capture(self, work: Callable[[], None]) -> CudaGraph:
        """Record what `work` queues on this stream, without running it.

        What other threads do with CUDA meanwhile neither disturbs the recording nor fails by it.
        Nor does the garbage collector: what it would free in this thread waits.
        """
        runtime, call = self.device.runtime, self.device.call
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with _no_collection():
            call("cudaStreamBeginCapture", self.handle, mode)
            try:
                work()
            except BaseException:
                self._abandon_capture()
                raise
            recorded = call("cudaStreamEndCapture", self.handle)
        try:
            return CudaGraph(self, call("cudaGraphInstantiate", recorded, 0))
        finally:
            self.device.release("cudaGraphDestroy", recorded)

    def _abandon_capture(self) -> None:
        """Leave capture mode; the error that CUDA reports then is the one already on its way."""
        error, recorded = self.device.runtime.cudaStreamEndCapture(self.handle)
        if int(error) == 0:
            self.device.release("cudaGraphDestroy", recorded)
        self.device.runtime.cudaGetLastError()


class CudaGraph:
    """Recorded work that is launched as a whole; the addresses it uses are fixed in it."""

    def __init__(self, stream: Stream, handle: Any) -> None:
        self._stream = stream
        self._handle = handle
        self.destroy = _finalizer(self, stream.device.release, "cudaGraphExecDestroy", handle)

    def launch(self) -> None:
        """Queue the recorded work once."""
        self._stream.device.call("cudaGraphLaunch", self._handle, self._stream.handle)


@contextmanager
def _no_collection() -> Iterator[None]:
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _finalizer(owner: object, release: Callable[..., None], *arguments: Any) -> Callable[[], Any]:
    """What gives something back once: when called, or when `owner` is gone.

    Not at the interpreter's exit, when CUDA may be gone too and takes everything back anyhow.
    """
    finalizer = weakref.finalize(owner, release, *arguments)
    finalizer.atexit = False
    return finalizer
