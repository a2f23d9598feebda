"""The kernel library is found, checked and called; what is wrong with it is named."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_kernels import compile_fake

import allfocus
from allfocus.kernels import library
from allfocus.kernels.architectures import covers
from allfocus.kernels.binding import BUILD, PROTOTYPES
from allfocus.kernels.launchers import Kernels
from allfocus.runtime.errors import BackendError, UsageError

HEADER = Path(__file__).parent.parent / "kernels" / "cuda" / "allfocus_kernels.h"
GPU = torch.device("cuda", 0)
Build = Callable[..., Path]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Make a library that says what it is told to, and let ALLFOCUS_KERNELS name it."""

    def run(**said: Any) -> Path:
        path = tmp_path / "lib.so"
        compile_fake(path, **said)
        monkeypatch.setenv(library.VARIABLE, str(path))
        return path

    return run


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    def pretend(major: int, minor: int) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (major, minor))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Stand-in GPU")

    return pretend


def test_prototypes_are_the_headers() -> None:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    declared = re.findall(r"ALLFOCUS_API\s+([\w* ]+?)\s*(allfocus_\w+)\s*\(([^)]*)\)", text)
    found = {
        name: (_c_type(result), [_c_type(a) for a in arguments.split(",") if a.strip() != "void"])
        for result, name, arguments in declared
    }
    assert found == PROTOTYPES


def _c_type(declared: str) -> object:
    if "*" in declared or "allfocus_stream" in declared:
        return ctypes.c_char_p if "char" in declared else ctypes.c_void_p
    kinds = {
        "int": ctypes.c_int,
        "int64_t": ctypes.c_int64,
        "size_t": ctypes.c_size_t,
        "float": ctypes.c_float,
    }
    return kinds[declared.split()[0]]


def test_a_library_that_fits_is_loaded_once(build: Build, gpu: Callable[[int, int], None]) -> None:
    path = build()
    gpu(8, 6)
    kernels = library.load(GPU)
    assert kernels.path == path.resolve()
    assert kernels.version == allfocus.__version__
    assert kernels.architectures == (75, 80, 86, 89, 90, 100, 120)
    assert library.load(GPU) is kernels


def test_a_missing_library_says_how_to_build_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "BUILT", tmp_path / "liballfocus_kernels.so")
    with pytest.raises(BackendError, match="are not built") as caught:
        library.load()
    assert BUILD in str(caught.value)
    assert "set ALLFOCUS_KERNELS" in str(caught.value)


def test_an_error_is_not_remembered(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build()
    path.rename(path.with_suffix(".away"))
    with pytest.raises(BackendError, match=r"ALLFOCUS_KERNELS=.*lib\.so: no such file"):
        library.load(torch.device("cpu"))
    path.with_suffix(".away").rename(path)
    assert library.load(torch.device("cpu")).path == path.resolve()
    monkeypatch.setenv(library.VARIABLE, str(path) + ".2")
    with pytest.raises(BackendError, match="no such file"):
        library.load(torch.device("cpu"))


def test_a_file_that_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lib.so"
    path.write_text("no machine code", encoding="utf-8")
    monkeypatch.setenv(library.VARIABLE, str(path))
    with pytest.raises(BackendError, match=r"lib\.so cannot be loaded \(.+\); build it") as caught:
        library.load()
    assert BUILD in str(caught.value)


@pytest.mark.parametrize("name", ["allfocus_version", "allfocus_sft_modulate_workspace"])
def test_a_missing_function(build: Build, name: str) -> None:
    build(without=name)
    with pytest.raises(BackendError, match=f"has no function {name}: it is not") as caught:
        library.load()
    assert BUILD in str(caught.value)


def test_another_version(build: Build) -> None:
    build(version="9.8.7")
    with pytest.raises(BackendError, match=r"belongs to allfocus 9\.8\.7, and this is") as caught:
        library.load()
    assert BUILD in str(caught.value)


@pytest.mark.parametrize(
    ("architectures", "held"), [("75,80", "sm_75, sm_80;"), ("", "no GPU;"), ("100", "sm_100;")]
)
def test_another_architecture(
    build: Build, gpu: Callable[[int, int], None], architectures: str, held: str
) -> None:
    build(architectures=architectures)
    gpu(7, 2)
    with pytest.raises(BackendError, match=f"compiled for {held} Stand-in GPU is sm_72") as caught:
        library.load(GPU)
    assert "-DCMAKE_CUDA_ARCHITECTURES=72" in str(caught.value)
    assert library.load(torch.device("cpu")).version == allfocus.__version__


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        ((75, 86), 86, True),
        ((75, 86), 89, True),  # the same major version, a later minor one
        ((75, 86), 80, False),  # an earlier minor one
        ((75, 86), 90, True),  # later than all: from PTX
        ((75, 86, 120), 90, False),  # the PTX is of 12.0, too new for it
        ((100, 120), 103, True),
        ((86,), 75, False),
        ((80, 90), 87, False),  # code for cards on Jetson Orin, and PTX that is too new
        ((86, 120), 87, False),
        ((87, 120), 89, False),  # and Orin's on a card
        ((87, 120), 87, True),
        ((86,), 87, True),  # from PTX
        ((101, 120), 110, True),  # Thor, as CUDA 12 called it
        ((100, 120), 101, False),
        ((), 90, False),
    ],
)
def test_which_gpus_a_library_covers(
    architectures: tuple[int, ...], capability: int, expected: bool
) -> None:
    assert covers(architectures, capability) is expected


@pytest.mark.parametrize(
    ("code", "text", "advised"),
    [
        (1, r"sft_modulate: CUDA error 1 \(invalid argument\)$", False),
        (209, "CUDA error 209 .no kernel image is available.*; build it", True),
        (35, "CUDA error 35 .CUDA driver version is insuff.*; update the driver, or,.*build", True),
        (12345, r"CUDA error 12345 \(unknown\)$", False),
    ],
)
def test_a_launch_that_fails(build: Build, code: int, text: str, advised: bool) -> None:
    kernels = Kernels(build(code=code))
    features = torch.ones(1, 2, 3, 4)
    with pytest.raises(BackendError, match=text) as caught:
        kernels.sft_modulate(features, features, None, features, 1.0)
    assert (BUILD in str(caught.value)) is advised


def test_a_dtype_the_kernels_do_not_take(build: Build) -> None:
    image = torch.ones(1, 1, 4, 4, dtype=torch.float64)
    with pytest.raises(UsageError, match=r"take float32, float16, bfloat16; got torch\.float64"):
        Kernels(build()).isotropic_conv(image, image, image)


def test_gradients_nobody_wants_are_not_made(build: Build) -> None:
    kernels = Kernels(build(code=1))  # a launch would fail
    a = torch.ones(1, 2, 3, 4)
    assert kernels.isotropic_conv_backward(a, a, a, a, (False,) * 3) == (None,) * 3
    assert kernels.sft_modulate_backward(a, a, a, None, a, 1.0, (False,) * 4) == (None,) * 4


def test_seeds_and_weights_are_made_together_and_given_as_wanted(build: Build) -> None:
    a = torch.ones(1, 2, 3, 4)
    made = Kernels(build()).isotropic_conv_backward(a, a, a, a, (False, True, False))
    assert [grad is not None for grad in made] == [False, True, False]


@pytest.mark.gpu
def test_the_built_library_runs_on_this_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available() or not library.BUILT.is_file():
        pytest.skip("needs a GPU that torch can use, and the built library")
    monkeypatch.delenv(library.VARIABLE, raising=False)
    features = torch.rand(1, 8, 20, 30, device=GPU)
    beta = torch.rand(1, 8, 1, 1, device=GPU)
    out = library.load(GPU).sft_modulate(features, features, None, beta, 1.0)
    torch.testing.assert_close(out, features * features + beta)
