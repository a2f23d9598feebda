"""The compiled CUDA kernels: found, loaded and checked when they are first called for.

The library is lib/liballfocus_kernels.so beside this module, where CMake puts it, or the file that
the environment variable ALLFOCUS_KERNELS names. Nothing here runs on a machine that uses the CPU.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import torch

import allfocus
from allfocus.kernels.architectures import covers, names
from allfocus.kernels.binding import HOW
from allfocus.kernels.launchers import Kernels
from allfocus.runtime.errors import BackendError

__all__ = ["BUILT", "VARIABLE", "Kernels", "load"]

VARIABLE = "ALLFOCUS_KERNELS"
BUILT = Path(__file__).parent / "lib" / "liballfocus_kernels.so"


def load(device: torch.device | None = None) -> Kernels:
    """The kernels for `device`, a GPU; None: for the current GPU, where there is one.

    Raises BackendError, which says how to build, where the library is missing, damaged, of another
    version of allfocus, or built for other GPUs. What was found is kept; an error is not.
    """
    if device is None and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    return _load(os.environ.get(VARIABLE), device)


@lru_cache(maxsize=16)
def _load(named: str | None, device: torch.device | None) -> Kernels:
    kernels = _open(_find(named))
    if kernels.version != allfocus.__version__:
        raise BackendError(
            f"{kernels.path} belongs to allfocus {kernels.version}, and this is "
            f"{allfocus.__version__}; {HOW}"
        )
    if device is not None and device.type == "cuda":
        _check_architecture(kernels, device)
    return kernels


_open = lru_cache(maxsize=4)(Kernels)


def _find(named: str | None) -> Path:
    path = Path(named) if named else BUILT
    if path.is_file():
        return path.resolve()
    if named:
        raise BackendError(f"{VARIABLE}={named}: no such file; unset it, or {HOW}")
    raise BackendError(
        f"the CUDA kernels are not built ({path} is missing): {HOW}; where allfocus is installed "
        f"without its source, set {VARIABLE} to the library built elsewhere"
    )


def _check_architecture(kernels: Kernels, device: torch.device) -> None:
    major, minor = torch.cuda.get_device_capability(device)
    capability = 10 * major + minor
    if covers(kernels.architectures, capability):
        return
    raise BackendError(
        f"{kernels.path} is compiled for {names(kernels.architectures)}; "
        f"{torch.cuda.get_device_name(device)} is sm_{capability}: add "
        f"-DCMAKE_CUDA_ARCHITECTURES={capability} to the first command when you {HOW}"
    )
