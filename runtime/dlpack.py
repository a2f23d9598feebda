"""DLPack: the C structure in which array libraries hand memory to each other, in plain Python.

`capsule` wraps memory for `__dlpack__`; `read` looks into a capsule that another library made.
Both speak the unversioned structure ("dltensor"), which every library takes and gives where no
newer version is asked for. The layout is that of dlpack.h.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from allfocus.runtime.errors import InputError

CPU, CUDA, CUDA_MANAGED = 1, 2, 13  # DLDeviceType

_NAME = b"dltensor"  # until a consumer takes the tensor over and renames the capsule
_INT, _UINT, _FLOAT = 0, 1, 2  # DLDataTypeCode
_TYPES = {
    **{(_INT, 8 * n): np.dtype(f"i{n}") for n in (1, 2, 4, 8)},
    **{(_UINT, 8 * n): np.dtype(f"u{n}") for n in (1, 2, 4, 8)},
    **{(_FLOAT, 8 * n): np.dtype(f"f{n}") for n in (2, 4, 8)},
}  # by code and bits


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


# Private prototypes: argtypes set on ctypes.pythonapi itself would be everybody's.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """What a capsule describes; strides in bytes."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]
    device: tuple[int, int]  # DLDeviceType and number


class _Addressed:
    """Memory as NumPy takes it, which keeps this and so its owner; the address is never read."""

    def __init__(
        self, owner: object, pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (pointer, False),
            "version": 3,
        }


def capsule(
    owner: object,
    pointer: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    device: tuple[int, int],
) -> Any:
    """A DLPack capsule for a contiguous array; `owner` lives until its consumer lets go of it.

    NumPy makes it, since a capsule dies in C, maybe while an exception is on its way, or while the
    interpreter takes its modules apart: no Python may run then. Only the device is put right.
    """
    made = np.asarray(_Addressed(owner, pointer, shape, dtype)).__dlpack__()
    _Managed.from_address(_pointer(made, _NAME)).tensor.device = _Device(*device)
    return made


def read(given: Any) -> Tensor:
    """What the capsule `given` describes; valid as long as it is kept and not handed on.

    The tensor is not taken over: the capsule's own destructor gives it back to the producer.
    """
    if not _is_valid(given, _NAME):
        raise InputError(f"frame through DLPack: expected a capsule named {_NAME!r}, got {given!r}")
    tensor = _Managed.from_address(_pointer(given, _NAME)).tensor
    dtype = _dtype(tensor.dtype)
    shape = tuple(tensor.shape[: tensor.ndim])
    steps = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else contiguous(shape)
    return Tensor(
        pointer=(tensor.data or 0) + tensor.byte_offset,
        shape=shape,
        strides=tuple(step * dtype.itemsize for step in steps),
        dtype=dtype,
        device=(tensor.device.kind, tensor.device.index),
    )


def _dtype(given: _DataType) -> np.dtype[Any]:
    dtype = _TYPES.get((given.code, given.bits))
    if dtype is None or given.lanes != 1:
        raise InputError(
            f"frame through DLPack: expected uint8 or float32 elements, got type code {given.code} "
            f"with {given.bits} bits and {given.lanes} lanes"
        )
    return dtype


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of a C-contiguous array, in elements."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
