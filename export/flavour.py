"""Which TensorRT builds the engine, and for which GPUs: decided before any work, without importing.

TensorRT times its kernels on the GPU it builds for. TensorRT for RTX builds ahead of time, for
several GPU generations at once, on a machine without a GPU.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib import metadata

from allfocus.runtime.errors import BackendError, UsageError, nearest
from allfocus.runtime.gpu import Gpu, find_gpus
from allfocus.runtime.manifest import Flavour
from allfocus.runtime.trt_engine import FLAVOURS

log = logging.getLogger("allfocus")

RTX_TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")
DEFAULT_TARGETS = ("sm86", "sm89", "sm120")  # GeForce RTX 30, 40 and 50
BACKENDS = ("auto", "tensorrt", "tensorrt-rtx")

_DISTRIBUTIONS: dict[Flavour, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt-rtx": ("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an engine is built by, and for."""

    flavour: Flavour
    version: str  # of the flavour's package
    targets: tuple[str, ...]  # compute capabilities, such as "sm86"
    gpu: str  # the GPU that TensorRT tunes on; "" ahead of time


def installed_version(flavour: Flavour) -> str | None:
    """The version of a flavour's Python package, None where it is not installed."""
    for name in _DISTRIBUTIONS[flavour]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def choose(backend: str, targets: str | None) -> Target:
    """The Target of `--backend` and `--target` (comma-separated; None where it was not given).

    "auto" takes TensorRT where it is installed and a GPU is there, else TensorRT for RTX. Targets
    mean building ahead of time, so with them "auto" takes TensorRT for RTX.
    Raises UsageError for options that do not fit, BackendError where a flavour cannot build here.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: {nearest(backend, BACKENDS)}")
    if backend == "auto":
        backend = _automatic(targets)
    return _here(targets) if backend == "tensorrt" else _ahead(targets)


def parse_targets(text: str) -> tuple[str, ...]:
    """Read "sm86,sm89"; raises UsageError with the list of known targets."""
    targets = tuple(dict.fromkeys(part.strip().lower() for part in text.split(",")))
    unknown = [target for target in targets if target not in RTX_TARGETS]
    if unknown:
        raise UsageError(
            f"--target: unknown {', '.join(map(repr, unknown))}; TensorRT for RTX builds for "
            f"{', '.join(RTX_TARGETS)}"
        )
    return targets


def _automatic(targets: str | None) -> Flavour:
    if targets is None and installed_version("tensorrt") is not None and find_gpus().devices:
        return "tensorrt"
    if installed_version("tensorrt-rtx") is None:
        raise BackendError(
            'nothing here can build an engine: pip install "allfocus[trt-rtx]" (TensorRT for RTX, '
            'needs no GPU) or pip install "allfocus[trt]" (TensorRT, on the GPU it builds for); '
            "--onnx-only makes the ONNX file alone"
        )
    return "tensorrt-rtx"


def _ahead(targets: str | None) -> Target:
    chosen = _default_targets() if targets is None else parse_targets(targets)
    version = _required("tensorrt-rtx")
    return Target(flavour="tensorrt-rtx", version=version, targets=chosen, gpu="")


def _default_targets() -> tuple[str, ...]:
    """Those of most machines, and the GPUs that are here; one that cannot be is told of."""
    here = find_gpus().devices
    for gpu in here:
        if gpu.target not in RTX_TARGETS:
            log.warning(
                "TensorRT for RTX does not build for GPU %d (%s, %s): the engine will not run "
                'there; TensorRT does: pip install "allfocus[trt]", --backend tensorrt',
                *(gpu.index, gpu.name, gpu.target),
            )
    wanted = {*DEFAULT_TARGETS, *(gpu.target for gpu in here)}
    return tuple(target for target in RTX_TARGETS if target in wanted)


def _here(targets: str | None) -> Target:
    if targets is not None:
        raise UsageError(
            "--target: TensorRT builds for the GPU that is present; leave --target out, or use "
            "--backend tensorrt-rtx, which builds ahead of time"
        )
    version = _required("tensorrt")
    gpu = _first_gpu()
    return Target(flavour="tensorrt", version=version, targets=(gpu.target,), gpu=gpu.name)


def _required(flavour: Flavour) -> str:
    version = installed_version(flavour)
    if version is None:
        names = FLAVOURS[flavour]
        raise BackendError(f'{names.title} is not installed: pip install "allfocus[{names.extra}]"')
    return version


def _first_gpu() -> Gpu:
    found = find_gpus()
    if not found.devices:
        raise BackendError(
            f"TensorRT builds on the GPU that will run the engine, and there is none here: "
            f"{found.reason}; use --backend tensorrt-rtx, which needs no GPU to build"
        )
    return found.devices[0]
