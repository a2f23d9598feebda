"""Which engines can run here: every broken installation becomes a sentence, never an error."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from allfocus.runtime import probe as probe_module
from allfocus.runtime.gpu import Gpu, Gpus
from allfocus.runtime.probe import BACKENDS, candidate, probe

ONE_GPU = Gpus((Gpu(0, "RTX", "sm89", 1 << 33),), "13.0", None, "")
NO_GPU = Gpus((), None, None, "no NVIDIA driver")


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: Gpus, **modules: Any) -> None:
    """A machine with `gpus`, and modules that are there, absent (None), or raise when imported."""

    def import_module(name: str) -> Any:
        module = modules.get(name.replace(".", "_"))
        if module is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])
        if isinstance(module, Exception):
            raise module
        return module

    monkeypatch.setattr(probe_module, "find_gpus", lambda: gpus)
    monkeypatch.setattr(probe_module, "import_module", import_module)


def ort(*providers: str) -> SimpleNamespace:
    return SimpleNamespace(get_available_providers=lambda: list(providers))


def test_this_machine_is_described_in_order() -> None:
    found = probe()
    assert tuple(c.name for c in found) == BACKENDS
    assert BACKENDS == ("tensorrt", "tensorrt-rtx", "cuda", "cpu", "openvino")
    assert all(c.usable == (not c.reason) for c in found)


def test_the_cpu_is_usable_here() -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    found = candidate("cpu")
    assert found.usable
    assert found.version == onnxruntime.__version__


@pytest.mark.openvino
def test_openvino_is_usable_where_it_is_installed() -> None:
    openvino = pytest.importorskip("openvino", reason="needs openvino")
    found = candidate("openvino")
    assert found.usable
    assert openvino.__version__.startswith(found.version)


@pytest.mark.openvino
def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, ONE_GPU)
    reasons = {c.name: c.reason for c in probe()}
    assert reasons == {
        "tensorrt": 'tensorrt is not installed: pip install "allfocus[trt]"',
        "tensorrt-rtx": 'tensorrt_rtx is not installed: pip install "allfocus[trt-rtx]"',
        "cuda": 'onnxruntime is not installed: pip install "allfocus[gpu]"',
        "cpu": 'onnxruntime is not installed: pip install "allfocus[cpu]"',
        "openvino": 'openvino is not installed: pip install "allfocus[openvino]"',
    }


@pytest.mark.openvino
def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ort("CUDAExecutionProvider", "CPUExecutionProvider")
    there = {"tensorrt": 1, "cuda_bindings_runtime": 1, "onnxruntime": both, "openvino": 1}
    pretend(monkeypatch, NO_GPU, **there)
    found = {c.name: c.reason for c in probe()}
    assert (found.pop("cpu"), found.pop("openvino")) == ("", "")
    assert set(found.values()) == {"no NVIDIA driver"}


@pytest.mark.openvino
def test_everything_there(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ort("CUDAExecutionProvider", "CPUExecutionProvider")
    there = {"tensorrt": 1, "tensorrt_rtx": 1, "cuda_bindings_runtime": 1, "onnxruntime": both}
    pretend(monkeypatch, ONE_GPU, openvino=1, **there)
    assert all(c.usable for c in probe())


def test_cuda_python_is_needed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, ONE_GPU, tensorrt=object())
    reason = candidate("tensorrt").reason
    assert reason == 'cuda is not installed: pip install "allfocus[trt]"'


@pytest.mark.parametrize(
    "error", [ImportError("bad ABI"), OSError("libnvinfer.so.10: no such file"), TypeError("odd")]
)
def test_a_broken_installation(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    pretend(monkeypatch, ONE_GPU, tensorrt=error)
    reason = candidate("tensorrt").reason
    assert f"cannot be imported ({type(error).__name__}: {error})" in reason
    assert 'pip install --force-reinstall "allfocus[trt]"' in reason


def test_onnxruntime_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, ONE_GPU, onnxruntime=ort("AzureExecutionProvider", "CPUExecutionProvider"))
    reason = candidate("cuda").reason
    assert "has no CUDAExecutionProvider (it has AzureExecutionProvider, CPU" in reason
    assert 'pip install "allfocus[gpu]"' in reason


def test_versions_need_no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    pretend(monkeypatch, NO_GPU)
    assert candidate("cpu").version is not None
    assert "onnxruntime-of-another-name" not in sys.modules
