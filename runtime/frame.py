"""Frames as callers give them: what is accepted, and how grey and alpha pass a net of 3 channels.

A frame is [H, W] or [H, W, C] with C = 1 (grey), 3 (colour) or 4 (colour and alpha); uint8, uint16
or float32 in [0, 1]. `peak` is the value of white. For frames of luma and chroma see `yuv_frame`.
"""

from __future__ import annotations

from os import PathLike
from typing import Any

import cv2
import numpy as np

from allfocus.runtime.backend import Array
from allfocus.runtime.errors import InputError
from allfocus.runtime.spec import YUV, Io
from allfocus.runtime.yuv_frame import EXPECTED, check_yuv

_PEAKS = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535, np.dtype(np.float32): 1}
_DEPTHS: dict[Io, np.dtype[Any]] = {"frame": np.dtype(np.uint8), "frame16": np.dtype(np.uint16)}
_FACES = {np.dtype(np.uint8): "frame", np.dtype(np.uint16): "frame16"}  # others: float
_EXPECTED = "expected uint8 [H, W, 3] (or uint16, or float32 in [0, 1]; grey or with alpha)"
_CUDA_DEVICES = (2, 13)  # DLPack's kDLCUDA and kDLCUDAManaged


def peak(dtype: np.dtype[Any]) -> int:
    """The value that stands for white in a frame of `dtype`: 255, 65535 or 1."""
    return _PEAKS[dtype]


def on_device(frame: Any) -> bool:
    """Whether `frame` lies in GPU memory: a CUDA tensor of PyTorch, CuPy, Numba, PyCUDA, ..."""
    if isinstance(frame, np.ndarray):
        return False
    if hasattr(frame, "__dlpack_device__"):
        try:
            return int(frame.__dlpack_device__()[0]) in _CUDA_DEVICES
        except (ValueError, RuntimeError, BufferError):  # PyTorch's devices that DLPack has not
            return False
    return hasattr(frame, "__cuda_array_interface__")


def checked(frame: Any, io: Io) -> Array:
    """`frame` as a plain array, if a graph with the face `io` can take it; else InputError."""
    if frame is None:
        raise InputError(
            f"{EXPECTED.get(io, _EXPECTED)}, got None, as cv2.imread gives where it cannot read "
            "a file, and VideoCapture.read where there is no frame: see that there is one"
        )
    if isinstance(frame, str | PathLike):
        raise InputError(
            f"{EXPECTED.get(io, _EXPECTED)}, got the path {str(frame)!r}: read it first, "
            "cv2.imread(...)"
        )
    if not isinstance(frame, np.ndarray):
        raise InputError(
            f"{EXPECTED.get(io, _EXPECTED)}, got {type(frame).__name__}: {_as_array(frame)}"
        )
    if io in YUV:
        check_yuv(frame.shape, frame.dtype, io)
        return np.asarray(frame)
    _check_shape(frame.shape)
    if frame.dtype not in _PEAKS:
        raise InputError(f"{_EXPECTED}, got {frame.dtype} {list(frame.shape)}: {_mend(frame)}")
    if io != "float" and frame.dtype != _DEPTHS[io]:
        raise InputError(
            f"this model was exported for {_DEPTHS[io]} frames, got {frame.dtype} "
            f"{list(frame.shape)}: convert the frame to {_DEPTHS[io]}, or export the model with "
            f"`--io {_FACES.get(frame.dtype, 'float')}`"
        )
    if frame.dtype == np.float32:
        _check_range(frame)
    return np.asarray(frame)


def to_color(frame: Array) -> Array:
    """A checked frame as contiguous [H, W, 3]: grey is repeated, alpha left out."""
    if frame.ndim == 2 or frame.shape[2] == 1:
        grey = np.ascontiguousarray(frame.reshape(frame.shape[:2]))
        return np.asarray(cv2.merge((grey, grey, grey)))
    whole = np.ascontiguousarray(frame)
    if frame.shape[2] == 4:  # OpenCV: NumPy takes ten times as long to pick three of four
        return np.asarray(cv2.cvtColor(whole, cv2.COLOR_BGRA2BGR))
    return whole


def from_color(image: Array, frame: Array) -> Array:
    """The inverse of `to_color` for a result [H, W, 3]: the shape and the alpha of `frame`.

    Grey is the mean of the three channels.
    """
    if frame.ndim == 2 or frame.shape[2] == 1:
        grey = cv2.transform(image, np.full((1, 3), 1 / 3))
        return np.asarray(grey).reshape(frame.shape)
    if frame.shape[2] == 4:
        return np.dstack((image, frame[:, :, 3]))
    return image


def _check_shape(shape: tuple[int, ...]) -> None:
    found = f"{_EXPECTED}, got shape {list(shape)}"
    if len(shape) == 4:
        raise InputError(f"{found}: give one frame at a time, such as frames[0]")
    if len(shape) not in (2, 3):
        raise InputError(f"{found}: a frame has two or three dimensions")
    if 0 in shape:
        raise InputError(f"{found}: the frame is empty")
    if len(shape) == 2 or shape[2] in (1, 3, 4):
        return
    if shape[0] in (1, 3, 4):
        raise InputError(
            f"{found}, which has its channels first: turn it with frame.transpose(1, 2, 0)"
        )
    raise InputError(f"{found}: a frame has 1, 3 or 4 channels, not {shape[2]}")


def _as_array(frame: object) -> str:
    """How it becomes an array."""
    if hasattr(frame, "__dlpack_device__"):
        return (
            "a tensor on the CPU is an array by its .numpy(), with its channels last; those of a "
            "GPU are taken as they are by the backends tensorrt and tensorrt-rtx"
        )
    return 'make it an array with np.asarray(...); pictures from PIL are RGB and need color="rgb"'


def _mend(frame: Array) -> str:
    if frame.dtype.kind == "u" and frame.dtype.itemsize == 2:
        return "its bytes are in the other order: convert it with frame.astype(np.uint16)"
    if frame.dtype == np.bool_:
        return "convert a mask with frame.astype(np.uint8) * 255"
    if np.issubdtype(frame.dtype, np.floating):
        return "convert it with frame.astype(np.float32)"
    return "convert it with frame.astype(np.uint8), or np.uint16 for 16 bits a channel"


def _check_range(frame: Array) -> None:
    low, high = float(frame.min()), float(frame.max())
    if np.isnan(low):
        raise InputError("float frame with NaN: replace it first, such as with np.nan_to_num")
    if low < 0 or high > 1:
        raise InputError(
            f"float frame with values from {low:g} to {high:g}, expected [0, 1]: divide by the "
            "value of white (255 or 65535), or clip small overshoots with np.clip(frame, 0, 1)"
        )
