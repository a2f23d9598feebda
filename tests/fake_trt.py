"""A stand-in for `tensorrt` and `tensorrt_rtx`, which computes on the memory of `fake_cuda`.

An "engine file" is a line of JSON (see `engine_files`). The net it stands for inverts the picture
and gives its first channel as the map. Like the real ones it computes when the stream comes to it,
from the shapes and addresses of the moment it was queued; refuses sizes out of its profile; must
run once at a new size before it can be captured; and spoils a graph launched after its context was
changed.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
from enum import Enum
from threading import Lock
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeCuda

from allfocus.runtime.manifest import Flavour
from allfocus.runtime.spec import Size


class Severity(Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity

    def log(self, level: Severity, message: str) -> None:
        raise NotImplementedError


class DataType(Enum):
    FLOAT = 0
    HALF = 1
    UINT8 = 5


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class EngineValidity(Enum):
    VALID = 0
    INVALID = 2


class EngineInvalidityDiagnostics(Enum):
    VERSION_MISMATCH = 1
    OLD_CUDA_DRIVER = 4
    MALFORMED_ENGINE = 32


class ComputeCapability(Enum):
    CURRENT = 1
    SM75 = 75
    SM86 = 86
    SM89 = 89
    SM120 = 120


class CudaGraphStrategy(Enum):
    DISABLED = 0
    WHOLE_GRAPH_CAPTURE = 1


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY = 0
    EAGER = 1
    NONE = 2


class FakeTrt:
    """One module: what the runtime uses of it, and for tests what happens in it."""

    ILogger = ILogger
    DataType = DataType
    TensorIOMode = TensorIOMode
    EngineValidity = EngineValidity
    EngineInvalidityDiagnostics = EngineInvalidityDiagnostics
    ComputeCapability = ComputeCapability
    CudaGraphStrategy = CudaGraphStrategy
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy

    def __init__(self, cuda: FakeCuda, version: str = "10.13.2.6") -> None:
        self.__version__ = version
        self.cuda = cuda
        self.Runtime = lambda logger: Runtime(self, logger)
        self.fail: set[str] = set()  # of: deserialize, config, context, shape, address, execute...
        self.events: list[str] = []
        self.capturable = True
        self.work_bytes = 1 << 20  # of GPU memory, in which an execution context works
        self.plugins: list[str] = []  # the libraries registered
        self.logger: ILogger | None = None  # of the first Builder or Runtime

    def get_plugin_registry(self) -> IPluginRegistry:
        return IPluginRegistry(self)


class IPluginRegistry:
    def __init__(self, trt: FakeTrt) -> None:
        self._trt = trt

    @property
    def all_creators(self) -> list[SimpleNamespace]:
        names = ("IsotropicConv", "SftModulate") if self._trt.plugins else ()
        return [SimpleNamespace(name=each, plugin_namespace="allfocus") for each in names]

    def load_library(self, plugin_path: str) -> object | None:
        assert self._trt.logger is not None, "errors would go nowhere"
        assert plugin_path not in self._trt.plugins, "registered twice"
        if "plugins" in self._trt.fail:
            self._trt.logger.log(Severity.ERROR, "Unable to load library")
            return None
        self._trt.plugins.append(plugin_path)
        self._trt.events.append("plugins")
        return object()


class Runtime:
    engine_header_size = 16

    def __init__(self, trt: FakeTrt, logger: ILogger) -> None:
        self._trt = trt
        self._logger = logger
        trt.logger = trt.logger or logger
        trt.events.append("runtime")

    def deserialize_cuda_engine(self, data: bytes) -> ICudaEngine | None:
        self._logger.log(Severity.INFO, "Loaded engine size: 0 MiB")
        self._logger.log(Severity.WARNING, "made on a different device")
        if "deserialize" in self._trt.fail:
            self._logger.log(Severity.ERROR, "Serialization assertion failed\n")
            return None
        facts = json.loads(data)
        if facts["plugins"] and not self._trt.plugins:
            self._logger.log(Severity.ERROR, "could not find plugin IsotropicConv")
            return None
        return ICudaEngine(self._trt, self._logger, facts)

    def get_engine_validity(self, header: bytes) -> tuple[EngineValidity, int]:
        assert len(header) == self.engine_header_size
        if "valid header" in self._trt.fail:
            return EngineValidity.VALID, 0
        return EngineValidity.INVALID, 1 | 32

    def __del__(self) -> None:
        self._trt.events.append("runtime gone")


class ICudaEngine:
    def __init__(self, trt: FakeTrt, logger: ILogger, facts: dict[str, Any]) -> None:
        self._trt = trt
        self._logger = logger
        self._facts = facts
        trt.events.append("engine")

    @property
    def device_memory_size_v2(self) -> int:
        return self._trt.work_bytes

    @property
    def num_io_tensors(self) -> int:
        return len(self._facts["tensors"])

    def get_tensor_name(self, index: int) -> str:
        return list(self._facts["tensors"])[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "image" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self._facts["tensors"][name][0]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._facts["tensors"][name][1])

    def create_runtime_config(self) -> IRuntimeConfig | None:
        return None if "config" in self._trt.fail else IRuntimeConfig(self._trt)

    def create_execution_context(
        self, config: IRuntimeConfig | None = None
    ) -> IExecutionContext | None:
        if "context" in self._trt.fail:
            self._logger.log(Severity.ERROR, "OutOfMemory")
            return None
        return IExecutionContext(self._trt, self._logger, self._facts, config)

    def __del__(self) -> None:
        self._trt.events.append("engine gone")


class IRuntimeConfig:
    def __init__(self, trt: FakeTrt) -> None:
        self._trt = trt
        self._cache: IRuntimeCache | None = None
        self.cuda_graph_strategy = CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy: Any = None

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(self._trt)

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = cache
        return True

    def __del__(self) -> None:
        self._trt.events.append("config gone")


class IRuntimeCache:
    """The sizes that kernels were compiled for; fits one kind of GPU."""

    def __init__(self, trt: FakeTrt) -> None:
        self._trt = trt
        self._sizes: list[Any] = []

    def deserialize(self, blob: bytes) -> bool:
        try:
            capability, sizes = json.loads(blob)
        except json.JSONDecodeError:
            return False
        if tuple(capability) != self._trt.cuda.capability:
            return False
        self._sizes = sizes
        self._trt.events.append(f"{len(sizes)} kernels read")
        return True

    def serialize(self) -> bytes | None:
        assert hasattr(self._trt.cuda.current, "device"), "no current CUDA context"
        self._trt.events.append("kernels written")
        if "serialize" in self._trt.fail:
            return None
        return json.dumps([self._trt.cuda.capability, self._sizes]).encode()


class IExecutionContext:
    def __init__(
        self,
        trt: FakeTrt,
        logger: ILogger,
        facts: dict[str, Any],
        config: IRuntimeConfig | None,
    ) -> None:
        self._trt = trt
        self._logger = logger
        self._facts = facts
        self._config = config
        self._size: Size | None = None
        self._addresses: dict[str, int] = {}
        self._changes = 0  # a graph recorded before a change must not run after it
        self._settled = False
        self._busy = Lock()
        trt.events.append("context")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        axes = dict(zip(LAYOUTS[self._facts["io"]][name], shape, strict=True))
        size = Size(axes["W"], axes["H"] if "H" in axes else 2 * axes["3H/2"] // 3)
        smallest, largest = (Size.parse(text) for text in self._facts["sizes"])
        fits = smallest.width <= size.width <= largest.width
        if not (fits and smallest.height <= size.height <= largest.height):
            self._logger.log(Severity.ERROR, "shape is out of the profile")
            return False
        self._size, self._settled = size, False
        self._changes += 1
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if self._size is None or "shape" in self._trt.fail:
            return self._tensor(name, -1, -1)
        return self._tensor(name, self._size.height, self._size.width)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if "address" in self._trt.fail:
            self._logger.log(Severity.ERROR, "not aligned")
            return False
        self._addresses[name] = memory
        self._changes += 1
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._busy.acquire(blocking=False), "two threads in one context"
        try:
            return self._execute(stream_handle)
        finally:
            self._busy.release()

    def _execute(self, stream_handle: int) -> bool:
        assert stream_handle > 2, "a default stream"
        cuda = self._trt.cuda
        assert cuda.device == cuda.streams[stream_handle].device, "another device is current"
        recording = cuda.recording(stream_handle)
        if "execute" in self._trt.fail:
            self._logger.log(Severity.ERROR, "illegal memory access")
            return False
        if recording and not (self._settled and self._trt.capturable):
            self._logger.log(Severity.ERROR, "operation not permitted when stream is capturing")
            cuda.invalidate(stream_handle)
            return False
        self._trt.events.append("recorded" if recording else "enqueued")
        self._settled = True
        assert self._size is not None
        size, addresses, changes = self._size, dict(self._addresses), self._changes
        if self._config is not None and self._config._cache is not None:
            sizes = self._config._cache._sizes
            sizes += [str(size)] if str(size) not in sizes else []

        def work() -> None:
            assert changes == self._changes, "the context was changed after this was recorded"
            self._trt.events.append("ran")
            self._compute(size, addresses)

        cuda.later(stream_handle, work)
        return True

    def _tensor(self, name: str, height: int, width: int) -> tuple[int, ...]:
        given = {"H": height, "W": width, "3H/2": -1 if height < 0 else 3 * height // 2}
        layout = LAYOUTS[self._facts["io"]][name]
        return tuple(given.get(str(axis), axis) for axis in layout)  # type: ignore[arg-type]

    def _compute(self, size: Size, addresses: dict[str, int]) -> None:
        for address in addresses.values():
            assert self._trt.cuda.cudaPointerGetAttributes(address)[1].type == 2, "not on the GPU"
        dtype = np.float32 if self._facts["io"] == "float" else np.uint8
        shape = self._tensor("image", size.height, size.width)
        image = self._trt.cuda.get(addresses["image"], shape, dtype)
        sharp, defocus = net(image)
        _write(addresses["sharp"], sharp)
        if "defocus" in addresses:
            _write(addresses["defocus"], defocus)

    def __del__(self) -> None:
        self._trt.events.append("context gone")


LAYOUTS: dict[str, dict[str, tuple[int | str, ...]]] = {
    "frame": {"image": (1, "H", "W", 3), "sharp": (1, "H", "W", 3), "defocus": (1, "H", "W")},
    **{
        io: {"image": axes, "sharp": axes, "defocus": (1, "H", "W")}
        for io, axes in {
            "frame16": (1, "H", "W", 6),
            "nv12": (1, "3H/2", "W"),
            "p010": (1, "3H/2", "W", 2),
        }.items()
    },
    "float": {"image": (1, 3, "H", "W"), "sharp": (1, 3, "H", "W"), "defocus": (1, 1, "H", "W")},
}


def net(image: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What every engine here computes: `sharp`, and of the first channel's high bytes `defocus`."""
    if image.dtype == np.float32:
        return 1 - image, image[:, :1]
    samples = image if image.ndim == 3 else image[..., {2: 1, 3: 0, 6: 1}[image.shape[3]]]
    below = samples.shape[1] // 3 if image.ndim == 3 or image.shape[3] == 2 else 0  # chroma
    first = samples[:, : samples.shape[1] - below]
    return 255 - image, (first / 255).astype(np.float32)


def _write(address: int, array: np.ndarray[Any, Any]) -> None:
    packed = np.ascontiguousarray(array)
    assert packed.nbytes == math.prod(array.shape) * array.itemsize
    ctypes.memmove(address, packed.ctypes.data, packed.nbytes)


def install(
    monkeypatch: pytest.MonkeyPatch, flavour: Flavour, cuda: FakeCuda, version: str
) -> FakeTrt:
    """Make a new FakeTrt what the module of `flavour` imports."""
    module = "tensorrt" if flavour == "tensorrt" else "tensorrt_rtx"
    fake = FakeTrt(cuda, version)
    monkeypatch.setitem(sys.modules, module, fake)  # type: ignore[arg-type]
    return fake
