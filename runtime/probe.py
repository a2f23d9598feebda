"""Which inference engines can run on this machine, and why the others cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata

from allfocus.runtime.gpu import find_gpus


@dataclass(frozen=True)
class Candidate:
    """One backend on this machine. `reason` says why it is not usable; "" where it is."""

    name: str
    usable: bool
    reason: str
    version: str | None  # of the engine's package; None where it is not installed


def probe() -> list[Candidate]:
    """All backends, in the order in which `backend="auto"` tries them; never raises."""
    return [candidate(name) for name in BACKENDS]


def candidate(name: str) -> Candidate:
    """The backend `name`, one of BACKENDS; never raises."""
    packages, find_problem = _CHECKS[name]
    problem = find_problem()
    return Candidate(name, not problem, problem, _version(packages))


def _tensorrt_problem(module: str, extra: str) -> str:
    return (
        find_gpus().reason
        or _import_problem(module, extra)
        or _import_problem("cuda.bindings.runtime", extra)
    )


def _cuda_problem() -> str:
    return (
        find_gpus().reason
        or _import_problem("onnxruntime", "gpu")
        or _provider_problem("CUDAExecutionProvider")
    )


def _cpu_problem() -> str:
    return _import_problem("onnxruntime", "cpu") or _provider_problem("CPUExecutionProvider")


def _openvino_problem() -> str:
    return _import_problem("openvino", "openvino")


def _import_problem(module: str, extra: str) -> str:
    """Why `module` cannot be imported, or "". A broken installation may raise anything at all."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        return f'{error.name} is not installed: pip install "allfocus[{extra}]"'
    except Exception as error:
        return (
            f"{module} is installed but cannot be imported ({type(error).__name__}: {error}); "
            f'try pip install --force-reinstall "allfocus[{extra}]"'
        )
    return ""


def _provider_problem(provider: str) -> str:
    available: list[str] = import_module("onnxruntime").get_available_providers()
    if provider in available:
        return ""
    return (
        f"the installed onnxruntime has no {provider} (it has {', '.join(available)}): "
        'pip uninstall onnxruntime, then pip install "allfocus[gpu]"'
    )


def _version(packages: tuple[str, ...]) -> str | None:
    for package in packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


_CHECKS: dict[str, tuple[tuple[str, ...], Callable[[], str]]] = {
    "tensorrt": (("tensorrt",), partial(_tensorrt_problem, "tensorrt", "trt")),
    "tensorrt-rtx": (("tensorrt-rtx",), partial(_tensorrt_problem, "tensorrt_rtx", "trt-rtx")),
    "cuda": (("onnxruntime-gpu",), _cuda_problem),
    "cpu": (("onnxruntime", "onnxruntime-gpu"), _cpu_problem),
    "openvino": (("openvino",), _openvino_problem),
}
BACKENDS = tuple(_CHECKS)  # the order of "auto", which takes the faster of those on the CPU
ON_CPU = ("cpu", "openvino")
