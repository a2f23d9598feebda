"""Stand-ins for the kernel library: shared objects with its functions, which do nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import allfocus
from allfocus.kernels.binding import PROTOTYPES


def compile_fake(
    path: Path,
    *,
    version: str = allfocus.__version__,
    architectures: str = "75,80,86,89,90,100,120",
    without: str | None = None,
    code: int = 0,
) -> None:
    """Write the library: what it says of itself, a function it lacks, what launchers return."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: stand-ins for the kernel library cannot be built")
    lines = {name: f"long {name}() {{ return {code}; }}" for name in PROTOTYPES}
    said = {"allfocus_version": version, "allfocus_architectures": architectures}
    lines.update({name: f'const char* {name}() {{ return "{s}"; }}' for name, s in said.items()})
    source = "\n".join(line for name, line in lines.items() if name != without)
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
