"""What NVIDIA GPUs this machine has, asked of the driver itself: no torch, no CUDA toolkit."""

from __future__ import annotations

import ctypes
import re
import sys
from dataclasses import dataclass
from pathlib import Path

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Gpu:
    """One GPU, as the driver describes it."""

    index: int
    name: str
    target: str  # compute capability, such as "sm86"
    memory_bytes: int


@dataclass(frozen=True)
class Gpus:
    """All GPUs the driver offers, or the reason why there are none."""

    devices: tuple[Gpu, ...]
    cuda: str | None  # newest CUDA version the driver supports, such as "13.0"
    driver: str | None  # the driver's own version, such as "580.95.05", where it is published
    reason: str  # why `devices` is empty; "" where it is not


def find_gpus() -> Gpus:
    """Ask the driver; a missing or failing driver is told in `reason`, never raised."""
    try:
        library = _load_library()
    except OSError:
        return Gpus((), None, None, f"no NVIDIA driver ({_LIBRARY} not found)")
    driver = _driver_version()
    try:
        _call(library, "cuInit", 0)
        cuda = _int(library, "cuDriverGetVersion")
        devices = tuple(_describe(library, i) for i in range(_int(library, "cuDeviceGetCount")))
    except _DriverError as error:
        return Gpus((), None, driver, f"the NVIDIA driver reports no usable GPU ({error})")
    version = f"{cuda // 1000}.{cuda % 1000 // 10}"
    return Gpus(devices, version, driver, "" if devices else "the NVIDIA driver lists no GPU")


def thread_has_context() -> bool:
    """Whether the calling thread works with a GPU already: a CUDA context is current in it."""
    try:
        library = _load_library()
        context = ctypes.c_void_p()
        _call(library, "cuCtxGetCurrent", ctypes.byref(context))
    except (OSError, _DriverError):
        return False
    return bool(context.value)


class _DriverError(Exception):
    pass


def _load_library() -> ctypes.CDLL:
    return ctypes.CDLL(_LIBRARY)


def _call(library: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(library, function)(*arguments)
    if code != 0:
        raise _DriverError(f"{function}: CUDA error {code}")


def _int(library: ctypes.CDLL, function: str, *arguments: object) -> int:
    value = ctypes.c_int()
    _call(library, function, ctypes.byref(value), *arguments)
    return value.value


def _describe(library: ctypes.CDLL, index: int) -> Gpu:
    device = _int(library, "cuDeviceGet", index)
    name = ctypes.create_string_buffer(256)
    _call(library, "cuDeviceGetName", name, len(name), device)
    memory = ctypes.c_size_t()
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    major = _int(library, "cuDeviceGetAttribute", _MAJOR, device)
    minor = _int(library, "cuDeviceGetAttribute", _MINOR, device)
    return Gpu(index, name.value.decode(), f"sm{major}{minor}", memory.value)


def _driver_version() -> str | None:
    try:
        text = _DRIVER_VERSION.read_text(encoding="utf-8")
    except OSError:  # Windows, WSL and some containers publish none
        return None
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return found.group() if found else None
