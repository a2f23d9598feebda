"""The C functions of the kernel library (cuda/allfocus_kernels.h) as ctypes sees them."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_float, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from allfocus.runtime.errors import BackendError

BUILD = "cmake -S . -B out && cmake --build out -j"
HOW = f"build it in allfocus' source folder, with nvcc 12 or 13: {BUILD}"

_SIZES = [c_int64, c_int64, c_int64, c_int64]  # n, channels, height, width
_SFT_INPUTS = [c_void_p, c_void_p, c_int, c_void_p, c_void_p, c_int]
_SFT_SIZES = [c_float, c_int, c_int, c_int64, c_int64, c_int64, c_void_p]

# name -> (result, arguments), in the header's order
PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "allfocus_version": (c_char_p, []),
    "allfocus_architectures": (c_char_p, []),
    "allfocus_isotropic_conv": (c_int, [*[c_void_p] * 4, c_int, *_SIZES, c_int64, c_void_p]),
    "allfocus_isotropic_conv_workspace": (c_size_t, _SIZES),  # n, height, width, levels
    "allfocus_isotropic_conv_backward": (
        c_int,
        [*[c_void_p] * 8, c_int, *_SIZES, c_int64, c_void_p],
    ),
    "allfocus_sft_modulate": (c_int, [*_SFT_INPUTS, c_void_p, *_SFT_SIZES]),
    "allfocus_sft_modulate_workspace": (c_size_t, [c_int64] * 3),
    "allfocus_sft_modulate_backward": (
        c_int,
        [c_void_p, *_SFT_INPUTS, *[c_void_p] * 4, c_void_p, *_SFT_SIZES],
    ),
}

_ERRORS = {  # what launchers answer, in cudaGetErrorString's words
    1: "invalid argument",
    2: "out of memory",
    9: "invalid configuration argument",
    35: "CUDA driver version is insufficient for CUDA runtime version",
    98: "invalid device function",
    100: "no CUDA-capable device is detected",
    209: "no kernel image is available for execution on the device",
    222: "the provided PTX was compiled with an unsupported toolchain",
    700: "an illegal memory access was encountered",
    719: "unspecified launch failure",
}
_WRONG_BUILD = (98, 209)  # the library does not fit this GPU
_OLD_DRIVER = (35, 222)  # the library was built by a newer nvcc than the driver knows


def open_library(path: Path) -> ctypes.CDLL:
    """Load the shared library and type its functions; raises BackendError where it is another."""
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendError(f"{path} cannot be loaded ({error}); {HOW}") from error
    for name, (result, arguments) in PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise BackendError(
                f"{path} has no function {name}: it is not the kernel library of this version of "
                f"allfocus; {HOW}"
            ) from None
        function.restype, function.argtypes = result, arguments
    return library


def check_launch(function: str, code: int) -> None:
    """Raise BackendError for a launcher's code that is not 0."""
    if code == 0:
        return
    advice = ""
    if code in _WRONG_BUILD:
        advice = f"; {HOW}"
    elif code in _OLD_DRIVER:
        advice = f"; update the driver, or, with an nvcc of its CUDA version or older, {HOW}"
    raise BackendError(f"{function}: CUDA error {code} ({_ERRORS.get(code, 'unknown')}){advice}")
