# ruff: noqa: N802, N815  the names are NVIDIA's
"""A stand-in for `cuda.bindings.runtime` whose "GPU memory" is host memory.

Queued work runs only when something waits for it, so that code which forgets to wait, or which
reuses memory too early, gets wrong values here too. Copies are checked against what is allocated,
freed memory is filled with rubbish, and everything that was made and not given back can be counted.
Any thread may call it, as the real one.
"""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import numpy as np
import pytest

Work = Callable[[], None]
LEGACY = 1


class Error(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class _CopyKind(IntEnum):
    cudaMemcpyDefault = 4


class _CaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


class _MemoryType(IntEnum):
    cudaMemoryTypeUnregistered = 0
    cudaMemoryTypeHost = 1
    cudaMemoryTypeDevice = 2
    cudaMemoryTypeManaged = 3


class _Attribute(IntEnum):
    cudaDevAttrComputeCapabilityMajor = 75
    cudaDevAttrComputeCapabilityMinor = 76


class _Properties:
    name = b"Fake GPU"


class _PointerAttributes:
    def __init__(self, kind: _MemoryType, device: int) -> None:
        self.type = kind
        self.device = device


class _Stream:
    def __init__(self, device: int = 0) -> None:
        self.device = device
        self.queue: deque[Work] = deque()
        self.recording: list[Work] | None = None
        self.recorder = 0  # the thread that records
        self.invalid = False


class FakeCuda:
    """The module's functions, with the same results: `(error, value...)`."""

    cudaError_t = Error
    cudaMemcpyKind = _CopyKind
    cudaMemoryType = _MemoryType
    cudaDeviceAttr = _Attribute
    cudaStreamCaptureMode = _CaptureMode
    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2

    def __init__(self, *, devices: int = 1, capability: tuple[int, int] = (8, 9)) -> None:
        self._lock = threading.RLock()
        self.devices = devices
        self.capability = capability
        self.driver = 13000
        self.current = threading.local()
        self.failures: dict[str, Error] = {}  # functions that fail, until taken out
        self.calls: list[str] = []
        self.blocks: dict[int, tuple[Any, _MemoryType, int]] = {}  # by pointer
        self.freed: list[Any] = []  # kept, so that no address is used twice
        self.streams = {LEGACY: _Stream(), 2: _Stream()}
        self.events: dict[int, deque[Work] | None] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.last_error = Error.cudaSuccess
        self._next = 1000

    def __getattribute__(self, name: str) -> Any:
        """The module's functions, one at a time."""
        found = object.__getattribute__(self, name)
        if not (name.startswith("cuda") and inspect.ismethod(found)):
            return found
        lock = object.__getattribute__(self, "_lock")

        def alone(*arguments: Any) -> Any:
            with lock:
                return found(*arguments)

        return alone

    # -- for tests

    def put(self, array: np.ndarray[Any, Any], *, device: int = 0) -> int:
        """Allocate GPU memory with the bytes of `array`, as another library would."""
        pointer = self._allocate(max(array.nbytes, 1), _MemoryType.cudaMemoryTypeDevice, device)
        ctypes.memmove(pointer, array.ctypes.data, array.nbytes)
        return pointer

    def get(self, pointer: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        """What lies at `pointer` now, whether or not queued work is still to change it."""
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.frombuffer(ctypes.string_at(pointer, count), dtype).reshape(shape)

    def later(self, stream: int, work: Work) -> None:
        """Queue `work` on a stream, as a kernel would be; part of a graph where one is recorded."""
        found = self.streams[stream]
        (found.queue if found.recording is None else found.recording).append(work)

    def invalidate(self, stream: int) -> None:
        """What happens to a recording when something that it cannot hold is called."""
        self.streams[stream].invalid = True

    def recording(self, stream: int) -> bool:
        return self.streams[stream].recording is not None

    def new_stream(self) -> int:
        """A stream of another library."""
        with self._lock:
            self._next += 1
            self.streams[self._next] = _Stream()
            return self._next

    @property
    def device(self) -> int:
        """The calling thread's current device."""
        return int(getattr(self.current, "device", 0))

    def left(self) -> dict[str, int]:
        """What was made through the functions below and not given back."""
        return {
            "blocks": len(self.blocks),
            "streams": len(self.streams) - 2,
            "events": len(self.events),
            "graphs": len(self.graphs) + len(self.executables),
        }

    # -- the module

    def cudaGetDeviceCount(self) -> tuple[Error, int | None]:
        error = self._enter("cudaGetDeviceCount")
        if not error and not self.devices:
            error = Error.cudaErrorNoDevice
        return error, None if error else self.devices

    def cudaDriverGetVersion(self) -> tuple[Error, int]:
        return self._enter("cudaDriverGetVersion"), self.driver

    def cudaDeviceGetAttribute(self, attribute: _Attribute, device: int) -> tuple[Error, int]:
        del device
        error = self._enter("cudaDeviceGetAttribute")
        major = attribute == _Attribute.cudaDevAttrComputeCapabilityMajor
        return error, self.capability[0 if major else 1]

    def cudaGetDeviceProperties(self, device: int) -> tuple[Error, _Properties]:
        del device
        return self._enter("cudaGetDeviceProperties"), _Properties()

    def cudaGetErrorName(self, error: Error) -> tuple[Error, bytes]:
        return Error.cudaSuccess, error.name.encode()

    def cudaGetErrorString(self, error: Error) -> tuple[Error, bytes]:
        return Error.cudaSuccess, f"fake {error.name}".encode()

    def cudaGetLastError(self) -> tuple[Error]:
        error, self.last_error = self.last_error, Error.cudaSuccess
        return (error,)

    def cudaGetDevice(self) -> tuple[Error, int]:
        return Error.cudaSuccess, self.device

    def cudaSetDevice(self, device: int) -> tuple[Error]:
        self.current.device = device
        return (self._enter("cudaSetDevice"),)

    def cudaMalloc(self, nbytes: int) -> tuple[Error, int | None]:
        return self._malloc("cudaMalloc", nbytes, _MemoryType.cudaMemoryTypeDevice, self.device)

    def cudaMallocHost(self, nbytes: int) -> tuple[Error, int | None]:
        return self._malloc("cudaMallocHost", nbytes, _MemoryType.cudaMemoryTypeHost, 0)

    def cudaFree(self, pointer: int) -> tuple[Error]:
        return (self._free("cudaFree", pointer, _MemoryType.cudaMemoryTypeDevice),)

    def cudaFreeHost(self, pointer: int) -> tuple[Error]:
        return (self._free("cudaFreeHost", pointer, _MemoryType.cudaMemoryTypeHost),)

    def cudaPointerGetAttributes(self, pointer: int) -> tuple[Error, _PointerAttributes]:
        error = self._enter("cudaPointerGetAttributes")
        for start, (block, kind, device) in self.blocks.items():
            if start <= pointer < start + len(block):
                return error, _PointerAttributes(kind, device)
        return error, _PointerAttributes(_MemoryType.cudaMemoryTypeUnregistered, -2)

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Error, int | None]:
        assert flags == self.cudaStreamNonBlocking
        error = self._enter("cudaStreamCreateWithFlags")
        stream = None if error else self.new_stream()
        if stream is not None:
            self.streams[stream].device = self.device
        return error, stream

    def cudaStreamDestroy(self, stream: int) -> tuple[Error]:
        error = self._enter("cudaStreamDestroy")
        del self.streams[stream]
        return (error,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Error]:
        error = self._enter("cudaStreamSynchronize")
        if self.streams[stream].recording is not None:
            self.invalidate(stream)
            error = Error.cudaErrorStreamCaptureUnsupported
        self._drain(self.streams[stream].queue)
        return (self._note(error),)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Error, int]:
        assert flags == self.cudaEventDisableTiming
        self._next += 1
        self.events[self._next] = None
        return self._enter("cudaEventCreateWithFlags"), self._next

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Error]:
        queue = self.streams[stream].queue
        self.events[event] = deque(queue)
        return (self._enter("cudaEventRecord"),)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Error]:
        assert flags == 0
        before = self.events[event]
        assert before is not None, "waits for an event that was never recorded"
        others = [s.queue for s in self.streams.values()]

        def wait() -> None:
            for work in before:
                for queue in others:
                    if work in queue:
                        queue.remove(work)
                        work()

        self.later(stream, wait)
        return (self._enter("cudaStreamWaitEvent"),)

    def cudaEventDestroy(self, event: int) -> tuple[Error]:
        del self.events[event]
        return (self._enter("cudaEventDestroy"),)

    def cudaMemcpyAsync(
        self, target: int, source: int, nbytes: int, kind: _CopyKind, stream: int
    ) -> tuple[Error]:
        error = self._enter("cudaMemcpyAsync")
        self._copy(target, nbytes, source, nbytes, nbytes, 1, kind, stream)
        return (error,)

    def cudaMemcpy2DAsync(
        self,
        target: int,
        target_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        height: int,
        kind: _CopyKind,
        stream: int,
    ) -> tuple[Error]:
        error = self._enter("cudaMemcpy2DAsync")
        if width > min(target_pitch, source_pitch):
            return (self._note(Error.cudaErrorInvalidValue),)
        self._copy(target, target_pitch, source, source_pitch, width, height, kind, stream)
        return (error,)

    def cudaStreamBeginCapture(self, stream: int, mode: _CaptureMode) -> tuple[Error]:
        assert mode == _CaptureMode.cudaStreamCaptureModeThreadLocal
        assert stream not in (LEGACY, 2)
        found = self.streams[stream]
        assert found.recording is None
        found.recording, found.invalid = [], False
        found.recorder = threading.get_ident()
        return (self._enter("cudaStreamBeginCapture"),)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Error, int | None]:
        error = self._enter("cudaStreamEndCapture")
        found = self.streams[stream]
        assert found.recording is not None, "no recording to end"
        recorded, found.recording = found.recording, None
        if error or found.invalid:
            return self._note(error or Error.cudaErrorStreamCaptureInvalidated), None
        self._next += 1
        self.graphs[self._next] = recorded
        return error, self._next

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Error, int | None]:
        assert flags == 0
        error = self._enter("cudaGraphInstantiate")
        if error:
            return error, None
        self._next += 1
        self.executables[self._next] = list(self.graphs[graph])
        return error, self._next

    def cudaGraphDestroy(self, graph: int) -> tuple[Error]:
        del self.graphs[graph]
        return (self._enter("cudaGraphDestroy"),)

    def cudaGraphLaunch(self, executable: int, stream: int) -> tuple[Error]:
        for work in self.executables[executable]:
            self.later(stream, work)
        return (self._enter("cudaGraphLaunch"),)

    def cudaGraphExecDestroy(self, executable: int) -> tuple[Error]:
        del self.executables[executable]
        return (self._enter("cudaGraphExecDestroy"),)

    # -- behind it

    def _enter(self, function: str) -> Error:
        self.calls.append(function)
        return self._note(self.failures.get(function, Error.cudaSuccess))

    def _note(self, error: Error) -> Error:
        if error:
            self.last_error = error
        return error

    def _malloc(
        self, function: str, nbytes: int, kind: _MemoryType, device: int
    ) -> tuple[Error, int | None]:
        error = self._enter(function)
        for stream in self.streams.values():
            if stream.recording is not None and stream.recorder == threading.get_ident():
                stream.invalid = True
                error = self._note(Error.cudaErrorStreamCaptureUnsupported)
        return error, None if error else self._allocate(nbytes, kind, device)

    def _allocate(self, nbytes: int, kind: _MemoryType, device: int) -> int:
        block = np.full(nbytes, 0xAA, np.uint8)
        with self._lock:
            self.blocks[block.ctypes.data] = (block, kind, device)
        return int(block.ctypes.data)

    def _free(self, function: str, pointer: int, kind: _MemoryType) -> Error:
        error = self._enter(function)
        if pointer not in self.blocks or self.blocks[pointer][1] != kind:
            return self._note(Error.cudaErrorInvalidValue)
        for stream in self.streams.values():
            self._drain(stream.queue)
        block = self.blocks.pop(pointer)[0]
        block[:] = 0xDD
        self.freed.append(block)
        return error

    def _copy(
        self,
        target: int,
        target_pitch: int,
        source: int,
        source_pitch: int,
        width: int,
        rows: int,
        kind: _CopyKind,
        stream: int,
    ) -> None:
        assert kind == _CopyKind.cudaMemcpyDefault

        def work() -> None:
            self._check(target, target_pitch * (rows - 1) + width)
            self._check(source, source_pitch * (rows - 1) + width)
            for row in range(rows):
                ctypes.memmove(target + row * target_pitch, source + row * source_pitch, width)

        self.later(stream, work)

    def _check(self, pointer: int, nbytes: int) -> None:
        for block in self.freed:
            start = block.ctypes.data
            assert pointer + nbytes <= start or pointer >= start + len(block), "memory was freed"
        for start, (block, _, _) in self.blocks.items():
            if start <= pointer < start + len(block):
                assert pointer + nbytes <= start + len(block), "past the end of an allocation"

    def _drain(self, queue: deque[Work]) -> None:
        while queue:
            queue.popleft()()


def install(monkeypatch: pytest.MonkeyPatch, fake: FakeCuda) -> FakeCuda:
    """Make `fake` what `cuda.bindings.runtime` imports."""
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake)  # type: ignore[arg-type]
    return fake


def out_of_memory(cuda: FakeCuda) -> None:
    """Let every further allocation on the GPU fail."""
    cuda.failures["cudaMalloc"] = Error.cudaErrorMemoryAllocation
