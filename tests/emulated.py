"""The CUDA kernels compiled for the CPU, see cuda_on_cpu/cuda_runtime.h: one library a session."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from compiled import ROOT, compile_library, compiled_once

from allfocus.kernels.launchers import Kernels
from allfocus.kernels.library import load

HEADERS = Path(__file__).parent / "cuda_on_cpu"


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def kernels_on(device: str) -> Kernels:
    """The kernels compiled for the CPU, or those for the GPU; skips where there is none."""
    if device == "cpu":
        return Kernels(emulated_library())
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    return load(torch.device(device))


def emulated_library() -> Path:
    """Path of the library; skips the test where there is no g++."""
    if shutil.which("g++") is None:
        pytest.skip("no g++: the kernels cannot be compiled for the CPU")
    return _built()


@lru_cache(maxsize=1)
def _built() -> Path:
    sources = sorted((ROOT / "kernels" / "cuda").glob("*.cu"))
    assert sources
    included = [HEADERS, ROOT / "kernels" / "cuda"]
    return compiled_once(_command(sources), "liballfocus_kernels.so", included)


def compile_for_cpu(sources: list[Path], library: Path) -> Path:
    """Compile .cu files with g++ against the stand-in headers."""
    return compile_library(_command(sources), library)


def _command(sources: list[Path]) -> list[str | Path]:
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas"]
    folders = ["-I", HEADERS, "-I", ROOT / "kernels" / "cuda"]
    return [*flags, *folders, "-x", "c++", *sources]
