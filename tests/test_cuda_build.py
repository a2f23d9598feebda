"""CMake and nvcc build the kernels, for one architecture here: no warning, no spill in a forward.

The build takes most of a minute; `pytest -m "not nvcc"` leaves it out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import allfocus
from allfocus.kernels.binding import PROTOTYPES, open_library
from allfocus.kernels.launchers import Kernels

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "kernels" / "lib" / "ptxas.txt"
ARCHITECTURE = "80"
FORWARD = ("7forward", "8modulate")  # as mangled names have them: length and name
_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<architecture>sm_\d+)'"
    r".*?, (?P<stored>\d+) bytes spill stores, (?P<loaded>\d+) bytes spill loads"
    r".*?Used (?P<registers>\d+) registers",
    re.DOTALL,
)

pytestmark = pytest.mark.nvcc


@dataclass(frozen=True)
class Build:
    library: Path
    said: str  # by CMake and the build
    figures: str  # ptxas.txt


@dataclass(frozen=True)
class Figures:
    """What ptxas says of one kernel."""

    name: str  # mangled
    architecture: str
    registers: int
    spilled: int  # bytes stored and loaded

    @property
    def forward(self) -> bool:
        return any(name in self.name for name in FORWARD)


def kernels_in(text: str) -> Iterator[Figures]:
    for found in _KERNEL.finditer(text):
        yield Figures(
            found["name"],
            found["architecture"],
            int(found["registers"]),
            int(found["stored"]) + int(found["loaded"]),
        )


def cmake(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    program = shutil.which("cmake")
    if program is None:
        pytest.skip("no cmake")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=600)
    if "CMake 3.24 or higher is required" in done.stderr:
        pytest.skip("cmake is older than 3.24")
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def nvcc_folders() -> list[Path]:
    """Where CMakeLists.txt would find nvcc."""
    named = [os.environ.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH")]
    toolkits = [Path(folder) / "bin" for folder in (*named, "/usr/local/cuda") if folder]
    path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    return [folder for folder in (*toolkits, *path) if (folder / "nvcc").is_file()]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    if not nvcc_folders():
        pytest.skip("no nvcc")
    folder = tmp_path_factory.mktemp("cuda-build")
    options = {
        "CMAKE_CUDA_ARCHITECTURES": ARCHITECTURE,
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": str(folder / "lib"),
        "ALLFOCUS_PLUGINS": "OFF",
    }
    defined = [f"-D{name}={value}" for name, value in options.items()]
    configured = cmake("-S", ROOT, "-B", folder, *defined)
    built = cmake("--build", folder, "--parallel", str(os.cpu_count() or 1))
    said = configured.stdout + configured.stderr + built.stdout + built.stderr
    library = folder / "lib" / "liballfocus_kernels.so"
    return Build(library, said, (folder / "lib" / "ptxas.txt").read_text(encoding="utf-8"))


def test_the_build_says_what_it_makes_and_warns_of_nothing(build: Build) -> None:
    assert f"allfocus {allfocus.__version__} for sm_{ARCHITECTURE}, PTX" in build.said
    assert "warning" not in build.said.lower()
    assert re.search(r"isotropic_conv\.cu: \d+ kernels, at most \d+ registers", build.said)


def test_the_library_says_what_it_is(build: Build) -> None:
    kernels = Kernels(build.library)
    assert kernels.version == allfocus.__version__
    assert kernels.architectures == (int(ARCHITECTURE),)


def test_the_library_shows_its_functions_and_no_others(build: Build) -> None:
    library = open_library(build.library)
    assert all(hasattr(library, name) for name in PROTOTYPES)
    for hidden in ("cudaMalloc", "cudaLaunchKernel", "__cudaRegisterFunction"):
        assert not hasattr(library, hidden), f"{hidden} would be shared with PyTorch's runtime"


def test_every_file_has_its_figures(build: Build) -> None:
    sources = sorted(path.name for path in (ROOT / "kernels" / "cuda").glob("*.cu"))
    sections = build.figures.split("== ")[1:]
    assert sorted(section.partition("\n")[0] for section in sections) == sources
    for section in sections:
        entries = section.count("Compiling entry function")
        assert len(list(kernels_in(section))) == entries
        assert entries or section.startswith("about.cu")


@pytest.mark.parametrize("name", FORWARD)
def test_forward_kernels_spill_no_registers(build: Build, name: str) -> None:
    kernels = [kernel for kernel in kernels_in(build.figures) if name in kernel.name]
    assert {kernel.architecture for kernel in kernels} == {f"sm_{ARCHITECTURE}"}
    assert not [kernel for kernel in kernels if kernel.spilled]


def test_forward_kernels_of_the_built_library_spill_no_registers() -> None:
    """Those in kernels/lib, for all the architectures that they were built for."""
    if not BUILT.is_file():
        pytest.skip("kernels/lib is empty: cmake -S . -B out && cmake --build out -j")
    kernels = [k for k in kernels_in(BUILT.read_text(encoding="utf-8")) if k.forward]
    assert kernels
    assert not [kernel for kernel in kernels if kernel.spilled]


def test_without_nvcc_cmake_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler, which CMake asks for first")
    monkeypatch.delenv("CUDACXX", raising=False)
    ignored = ";".join(map(str, nvcc_folders()))
    done = cmake("-S", ROOT, "-B", tmp_path, f"-DCMAKE_IGNORE_PATH={ignored}", check=False)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert "No CUDA compiler: allfocus' kernels need nvcc of the CUDA toolkit 12 or 13" in said
    assert "the Python package works all the same" in said


def test_figures_are_read_as_ptxas_writes_them() -> None:
    text = """ptxas info    : Compiling entry function '_ZN8allfocus7forwardIfEvv' for 'sm_75'
ptxas info    : Function properties for _ZN8allfocus7forwardIfEvv
    16 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 432 bytes cmem[0]
"""
    assert list(kernels_in(text)) == [Figures("_ZN8allfocus7forwardIfEvv", "sm_75", 255, 20)]
    assert next(kernels_in(text)).forward
