"""From a model's name or a file to a loaded engine: the first, or fastest, that runs here."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

from allfocus.runtime import fastest
from allfocus.runtime.artefacts import find_engines, find_onnx
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.canary import check as check_canary
from allfocus.runtime.catalogue import entry
from allfocus.runtime.errors import (
    AllfocusError,
    ArtefactError,
    BackendError,
    UsageError,
    nearest,
)
from allfocus.runtime.manifest import Flavour, read_manifest
from allfocus.runtime.probe import BACKENDS, ON_CPU, candidate
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import Io, Wanted
from allfocus.runtime.ways import (
    Way,
    check_computes,
    check_file,
    left_out,
    ways_by_name,
    ways_of_file,
)

log = logging.getLogger("allfocus")

_FLAVOURS: tuple[str, ...] = get_args(Flavour)
_ONNX = tuple(name for name in BACKENDS if name not in _FLAVOURS)
_CHOICES = {
    "auto": BACKENDS,
    "onnxruntime": ("cuda", "cpu"),
    **{name: (name,) for name in BACKENDS},
}

Find = Callable[[str], Sequence[Way]]  # a backend's name -> ways for it, best first
Reasons = list[tuple[str, str]]  # (backend, why it was not taken)
Problems = list[tuple[str, AllfocusError]]


def open_first(
    model: str | Path, backend: str, options: Options, io: Io | None = None
) -> tuple[Backend, Reasons]:
    """The engine for a model by name (with the face `io`) or by path, and why none before it was.

    `backend`, the precision of `options`, and errors as in `load`.
    """
    wanted = _wanted(backend)
    _check_device(backend, wanted, options.device)
    check_computes(wanted, options.precision)
    path = as_path(model)
    if path is None:
        return _first(str(model), wanted, _by_name(str(model), io, options.precision), options)
    fitting = _fitting(path, wanted, backend)
    return _first(str(path), fitting, _by_path(path, fitting, options.precision), options)


def _check_device(backend: str, wanted: Sequence[str], device: int) -> None:
    if device and all(name in ON_CPU for name in wanted):
        raise UsageError(
            f"device: {backend} runs on the CPU, and GPU {device} was asked for; leave it out, or "
            "choose a backend of GPUs"
        )


def _first(
    model: str, wanted: Sequence[str], find: Find, options: Options
) -> tuple[Backend, Reasons]:
    """The first backend of `wanted` that loads, with the reasons against the others tried.

    Those on the CPU are one step: the fastest of them.
    """
    problems: Problems = []
    refused: list[AllfocusError] = []
    for step in _steps(wanted):
        ways = _ways(step, find, problems)
        with fastest.ranked(model, ways, partial(_opened, options), options) as ranking:
            for way in ranking.ways:
                try:
                    loaded = ranking.take(way)
                except (ArtefactError, BackendError) as error:
                    problems.append((way.label, error))
                    refused.append(error)
                    continue
                _warn(refused)
                reasons = [(other, str(error)) for other, error in problems]
                reasons += ranking.against(way)
                if as_path(model) is None:
                    reasons += left_out(ways, options.precision)
                return loaded, reasons
    failure = _nothing_works(model, problems)
    _warn(error for error in refused if error is not failure)
    raise failure


def _steps(wanted: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each engine on a GPU by itself, then all on the CPU."""
    yield from ((name,) for name in wanted if name not in ON_CPU)
    yield tuple(name for name in wanted if name in ON_CPU)


def _ways(backends: Iterable[str], find: Find, problems: Problems) -> list[Way]:
    """The ways of those backends that work here; what is against others goes to `problems`."""
    ways: list[Way] = []
    for name in backends:
        try:
            ways += _usable(name, find)
        except (ArtefactError, BackendError) as error:
            problems.append((name, error))
    return ways


def _warn(refused: Iterable[AllfocusError]) -> None:
    for error in refused:
        log.warning("passed over: %s", error)


def _usable(name: str, find: Find) -> Sequence[Way]:
    found = candidate(name)
    if not found.usable:
        raise BackendError(found.reason)
    return find(name)


def _opened(options: Options, way: Way) -> Backend:
    return opened(way.backend, way.artefact, replace(options, precision=way.precision))


def opened(name: str, artefact: Path, options: Options) -> Backend:
    """Load one file into one engine, and ask it for the golden frame."""
    loaded = _started(name, artefact, options)
    if options.canary:
        try:
            check_canary(loaded)
        except AllfocusError:
            loaded.close()
            raise
    return loaded


def _started(name: str, artefact: Path, options: Options) -> Backend:
    if name in _FLAVOURS:
        from allfocus.runtime.trt import TrtBackend

        return TrtBackend(artefact, options)
    if name == "openvino":
        from allfocus.runtime.ov import OpenVinoBackend

        return OpenVinoBackend(artefact, options)
    from allfocus.runtime.ort import OrtBackend, OrtCudaBackend

    return (OrtCudaBackend if name == "cuda" else OrtBackend)(artefact, options)


def _nothing_works(model: str, problems: Problems) -> AllfocusError:
    """One error for all `problems`; where one cause stopped every backend left, that one."""
    if len(problems) == 1:
        return problems[0][1]
    files = [error for name, error in problems if _is_of_file(name, error)]
    if files:  # an engine that is not installed could not have helped
        return files[-1]
    causes = "; ".join(f"{name}: {error}" for name, error in problems)
    return BackendError(f"no engine can run {model} here. {causes}")


def _is_of_file(name: str, error: AllfocusError) -> bool:
    return name.split()[0] in ON_CPU and isinstance(error, ArtefactError)


def _by_name(name: str, io: Io | None, precision: Wanted) -> Find:
    def ways(backend: str) -> Sequence[Way]:
        if backend in ON_CPU:
            return ways_by_name(name, backend, io, precision)
        return [Way(backend, path) for path in find(name, backend, "whole", io, precision)]

    return ways


def find(name: str, backend: str, phase: Phase, io: Io | None, precision: Wanted) -> Sequence[Path]:
    """Files of a phase of a model for a backend, best first, where `precision` is the files'.

    Raises ArtefactError where there is none.
    """
    if backend in _FLAVOURS:
        return find_engines(name, backend, phase, io, precision)
    return find_onnx(name, phase, io, precision, backend)


def _by_path(path: Path, fitting: Sequence[str], precision: Wanted) -> Find:
    if path.suffix == ".onnx":
        check_file(path, fitting, precision)
        return lambda backend: ways_of_file(path, backend, precision)
    found = read_manifest(path).graph.precision
    if precision not in ("auto", found):
        raise UsageError(
            f"{path}: an engine of {found}, not of {precision}: leave the precision at 'auto', or "
            f"build one with `allfocus export --precision {precision}`"
        )
    return lambda backend: [Way(backend, path)]


def _fitting(path: Path, wanted: Sequence[str], asked: str) -> tuple[str, ...]:
    """Those of `wanted` that can run the file `path`."""
    if path.suffix == ".engine":
        able: tuple[str, ...] = (read_manifest(path).flavour,)
    elif path.suffix == ".onnx":
        able = _ONNX
    else:
        raise UsageError(
            f"{path}: expected a model's name, an .onnx or an .engine file; weights are exported "
            "first: `allfocus export --model NAME --weights FILE`"
        )
    fitting = tuple(name for name in wanted if name in able)
    if not fitting:
        raise UsageError(
            f"{path}: runs in {' or '.join(able)}, not in {asked!r}; leave the backend at 'auto', "
            f"or make a file for it with `allfocus export --backend ...`"
        )
    return fitting


def as_path(model: str | Path) -> Path | None:
    """`model` as a path, or None where it is a name of the catalogue (which has no dots)."""
    if not isinstance(model, str | os.PathLike):
        raise UsageError(f"model: expected a name or a path of a file, got {model!r}")
    path = Path(model)
    if isinstance(model, Path) or path.suffix or len(path.parts) != 1:
        return path.expanduser()
    entry(model)
    return None


def _wanted(backend: str) -> tuple[str, ...]:
    if not isinstance(backend, str) or backend not in _CHOICES:
        raise UsageError(f"unknown backend {backend!r}: {nearest(str(backend), _CHOICES)}")
    return _CHOICES[backend]
