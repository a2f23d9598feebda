"""The CUDA kernels compiled for the CPU, see cuda_on_cpu/cuda_runtime.h: one library a session."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest
import torch

from allfocus.kernels.launchers import Kernels
from allfocus.kernels.library import load

ROOT = Path(__file__).parent.parent
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
    folder = Path(tempfile.mkdtemp(prefix="allfocus-emulated-"))
    return compile_for_cpu(sources, folder / "liballfocus_kernels.so")


def compile_for_cpu(sources: list[Path], library: Path) -> Path:
    """Compile .cu files with g++ against the stand-in headers."""
    flags = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Wno-unknown-pragmas"]
    folders = ["-I", str(HEADERS), "-I", str(ROOT / "kernels" / "cuda")]
    command = ["g++", *flags, *folders, "-x", "c++", *map(str, sources), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return library
