"""From a model's name or a file to a loaded engine: the first that runs here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

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
from allfocus.runtime.probe import BACKENDS, candidate
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import Io

log = logging.getLogger("allfocus")

_FLAVOURS: tuple[str, ...] = get_args(Flavour)
_ONNX = tuple(name for name in BACKENDS if name not in _FLAVOURS)
_CHOICES = {"auto": BACKENDS, "onnxruntime": _ONNX, **{name: (name,) for name in BACKENDS}}

Find = Callable[[str], Sequence[Path]]  # a backend's name -> artefacts for it, best first
Reasons = list[tuple[str, str]]  # (backend, why it was not taken)


def open_first(
    model: str | Path, backend: str, options: Options, io: Io | None = None
) -> tuple[Backend, Reasons]:
    """The engine for a model by name (with the face `io`) or by path, and why none before it was.

    `backend` and errors as in `load`.
    """
    wanted = _wanted(backend)
    path = as_path(model)
    if path is None:
        return _first(str(model), wanted, _by_name(str(model), io), options)
    return _first(str(path), _fitting(path, wanted, backend), _only(path), options)


def _first(
    model: str, wanted: Sequence[str], find: Find, options: Options
) -> tuple[Backend, Reasons]:
    """The first backend of `wanted` that loads, with the reasons against those before it."""
    problems: list[tuple[str, AllfocusError]] = []
    refused: list[AllfocusError] = []
    for name in wanted:
        try:
            artefacts = _usable(name, find)
        except (ArtefactError, BackendError) as error:
            problems.append((name, error))
            continue
        for artefact in artefacts:
            try:
                loaded = opened(name, artefact, options)
            except (ArtefactError, BackendError) as error:
                problems.append((name, error))
                refused.append(error)
                continue
            _warn(refused)
            return loaded, [(other, str(error)) for other, error in problems]
    failure = _nothing_works(model, problems)
    _warn(error for error in refused if error is not failure)
    raise failure


def _warn(refused: Iterable[AllfocusError]) -> None:
    for error in refused:
        log.warning("passed over: %s", error)


def _usable(name: str, find: Find) -> Sequence[Path]:
    found = candidate(name)
    if not found.usable:
        raise BackendError(found.reason)
    return find(name)


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
    from allfocus.runtime.ort import OrtBackend, OrtCudaBackend

    return (OrtCudaBackend if name == "cuda" else OrtBackend)(artefact, options)


def _nothing_works(model: str, problems: Sequence[tuple[str, AllfocusError]]) -> AllfocusError:
    """One error for all `problems`; where one cause stopped every backend left, that one."""
    last = problems[-1][1]
    if len(problems) == 1 or isinstance(last, ArtefactError):
        return last
    causes = "; ".join(f"{name}: {error}" for name, error in problems)
    return BackendError(f"no engine can run {model} here. {causes}")


def _by_name(name: str, io: Io | None) -> Find:
    return lambda backend: find(name, backend, "whole", io)


def find(name: str, backend: str, phase: Phase, io: Io | None) -> Sequence[Path]:
    """Files of a phase of a model for a backend, best first; raises ArtefactError for none."""
    in_onnx = backend not in _FLAVOURS
    return [find_onnx(name, phase, io)] if in_onnx else find_engines(name, backend, phase, io)


def _only(path: Path) -> Find:
    return lambda _: [path]


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
    path = Path(model)
    if isinstance(model, Path) or path.suffix or len(path.parts) != 1:
        return path.expanduser()
    entry(model)
    return None


def _wanted(backend: str) -> tuple[str, ...]:
    if backend not in _CHOICES:
        raise UsageError(f"unknown backend {backend!r}: {nearest(backend, _CHOICES)}")
    return _CHOICES[backend]
