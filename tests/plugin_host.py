"""The TensorRT plugins compiled for the CPU; plugin_driver.cpp plays TensorRT's part."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int32, c_int64, c_void_p
from functools import lru_cache
from pathlib import Path

import pytest
from compiled import ROOT, compiled_once
from emulated import HEADERS, emulated_library

PLUGINS = ROOT / "kernels" / "trt_plugins"
FLOAT32, FLOAT16, INT8, INT32, BFLOAT16 = 0, 1, 2, 3, 7  # nvinfer1::DataType
LINEAR, HWC8, HWC = 0, 2, 8  # nvinfer1::TensorFormat
FIELD_FLOAT32, FIELD_FLOAT64, FIELD_INT32 = 1, 2, 5  # nvinfer1::PluginFieldType
BUILD, RUNTIME = 0, 1  # nvinfer1::TensorRTPhase


class Field(ctypes.Structure):
    """nvinfer1::PluginField."""

    _fields_ = (("name", c_char_p), ("data", c_void_p), ("type", c_int32), ("length", c_int32))


class Dims(ctypes.Structure):
    """nvinfer1::Dims."""

    _fields_ = (("rank", c_int32), ("d", c_int64 * 8))

    @staticmethod
    def of(shape: Sequence[int]) -> Dims:
        return Dims(len(shape), (c_int64 * 8)(*shape))


class Tensor(ctypes.Structure):
    """nvinfer1::PluginTensorDesc."""

    _fields_ = (("dims", Dims), ("type", c_int32), ("format", c_int32), ("scale", c_float))

    @staticmethod
    def of(shape: Sequence[int], kind: int = FLOAT32, layout: int = LINEAR) -> Tensor:
        return Tensor(Dims.of(shape), kind, layout, -1.0)


def field(name: str, value: float | int, kind: int, length: int = 1) -> Field:
    types = {FIELD_FLOAT32: c_float, FIELD_FLOAT64: c_double, FIELD_INT32: c_int32}
    made = types[kind](value)
    out = Field(name.encode(), ctypes.addressof(made), kind, length)
    out.keep = made  # a Field holds an address only
    return out


def slope(value: float) -> Field:
    return field("slope", value, FIELD_FLOAT32)


def version(value: int) -> Field:
    return field("version", value, FIELD_INT32)


class Plugin:
    """An IPluginV3; every method is a call that TensorRT makes. Codes: 0 is success."""

    def __init__(self, driver: ctypes.CDLL, place: int) -> None:
        self._driver, self._place = driver, c_void_p(place)

    def __del__(self) -> None:
        self._driver.plugin_destroy(self._place)

    def names(self) -> tuple[bytes, bytes, bytes]:
        kinds = ("name", "version", "namespace")
        name, version, space = (getattr(self._driver, f"plugin_{k}")(self._place) for k in kinds)
        return name, version, space

    def clone(self) -> Plugin:
        return Plugin(self._driver, self._driver.plugin_clone(self._place))

    def attach(self) -> Plugin:
        return Plugin(self._driver, self._driver.plugin_attach(self._place))

    def fields(self) -> list[Field]:
        out = (Field * 8)()
        return list(out[: self._driver.plugin_fields(self._place, out)])

    def type(self, *inputs: int) -> int | None:
        out = c_int32()
        code = self._driver.plugin_type(
            self._place, (c_int32 * len(inputs))(*inputs), len(inputs), byref(out)
        )
        return None if code else out.value

    def shape(self, *inputs: Sequence[int]) -> list[int] | None:
        given, out = (Dims * len(inputs))(*map(Dims.of, inputs)), Dims()
        code = self._driver.plugin_shape(self._place, given, len(inputs), byref(out))
        return None if code else list(out.d[: out.rank])

    def supports(self, position: int, tensors: Sequence[Tensor], inputs: int) -> bool:
        given = (Tensor * len(tensors))(*tensors)
        return bool(self._driver.plugin_supports(self._place, position, given, inputs))

    def configure(self, *tensors: Tensor) -> int:
        return self._on_tensors("configure", tensors)

    def workspace(self, *tensors: Tensor) -> int:
        return self._on_tensors("workspace", tensors)

    def shape_change(self, *tensors: Tensor) -> int:
        return self._on_tensors("shape_change", tensors)

    def _on_tensors(self, call: str, tensors: Sequence[Tensor]) -> int:
        given = (Tensor * len(tensors))(*tensors)
        call_it = getattr(self._driver, f"plugin_{call}")
        return int(call_it(self._place, given, len(tensors) - 1))

    def enqueue(self, tensors: Sequence[Tensor], places: Sequence[int], output: int) -> int:
        given = (Tensor * len(tensors))(*tensors)
        inputs = (c_void_p * len(places))(*places)
        out = c_void_p(output)
        return int(self._driver.plugin_enqueue(self._place, given, len(places), inputs, out))


class Library:
    """A loaded plugin library with its creators by name."""

    def __init__(self, path: Path) -> None:
        self._driver = _driver()
        self._library = c_void_p(self._driver.library_open(str(path).encode()))
        assert self._library, f"dlopen refused {path}"
        self._driver.library_give_logger(self._library)
        found = (c_void_p * 8)()
        count = self._driver.library_creators(self._library, found)
        self.creators = {
            self._driver.creator_name(c_void_p(place)).decode(): c_void_p(place)
            for place in found[:count]
        }

    def creator_names(self, name: str) -> tuple[bytes, bytes, bytes]:
        kinds = ("name", "version", "namespace")
        place = self.creators[name]
        own, version, space = (getattr(self._driver, f"creator_{kind}")(place) for kind in kinds)
        return own, version, space

    def fields(self, name: str) -> list[Field]:
        out = (Field * 8)()
        return list(out[: self._driver.creator_fields(self.creators[name], out)])

    def create(self, name: str, *fields: Field, phase: int = BUILD) -> Plugin | None:
        given = (Field * len(fields))(*fields)
        place = self._driver.creator_create(self.creators[name], given, len(fields), phase)
        return None if place is None else Plugin(self._driver, place)

    def log(self) -> str:
        """What was logged since the last call: a line each, severity (1: error) and message."""
        out = ctypes.create_string_buffer(1 << 16)
        self._driver.take_log(out, len(out))
        return out.value.decode()


def headers() -> Path:
    """The folder of TensorRT's headers; skips the test where there is none."""
    root = os.environ.get("TensorRT_ROOT", "")  # noqa: SIM112, as CMake spells it
    for folder in (Path(root, "include"), Path(root), Path("/usr/include/x86_64-linux-gnu")):
        if (folder / "NvInfer.h").is_file():
            return folder
    pytest.skip("no NvInfer.h: set TensorRT_ROOT to a folder with include/NvInfer.h")


@lru_cache(maxsize=1)
def emulated_plugins() -> Path:
    """The plugins, compiled with g++ and linked with the kernels for the CPU."""
    headers()  # first: it skips at once
    kernels = emulated_library()
    sources = sorted(PLUGINS.glob("*.cpp"))
    assert sources
    links = [f"-Wl,--version-script={PLUGINS / 'exports.map'}", "-Wl,--no-undefined"]
    return _compile(sources, "liballfocus_plugins.so", [*links, str(kernels)])


@lru_cache(maxsize=1)
def open_plugins() -> Library:
    """The plugins in a TensorRT that is played."""
    return Library(emulated_plugins())


@lru_cache(maxsize=1)
def _driver() -> ctypes.CDLL:
    source = Path(__file__).parent / "plugin_driver.cpp"
    driver = ctypes.CDLL(str(_compile([source], "plugin_driver.so", ["-ldl"])))
    for part in ("name", "version", "namespace"):
        getattr(driver, f"creator_{part}").restype = c_char_p
        getattr(driver, f"plugin_{part}").restype = c_char_p
    for name in ("library_open", "creator_create", "plugin_clone", "plugin_attach"):
        getattr(driver, name).restype = c_void_p
    driver.plugin_workspace.restype = c_int64
    driver.creator_create.argtypes = (c_void_p, POINTER(Field), c_int32, c_int32)
    assert driver.tensor_size() == ctypes.sizeof(Tensor)
    return driver


def _compile(sources: list[Path], name: str, links: list[str]) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++: the plugins cannot be compiled for the CPU")
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    included = [HEADERS, ROOT / "kernels" / "cuda", PLUGINS]
    folders = ["-isystem", headers(), "-I", HEADERS, "-I", ROOT / "kernels" / "cuda"]
    return compiled_once([*flags, *folders, *sources, *links], name, included)
