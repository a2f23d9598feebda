"""From a model's name or a file to a Deblurrer, or a Model, on the best engine there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import get_args

from allfocus.runtime import skip as skips
from allfocus.runtime.artefacts import find_engines, find_onnx
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.canary import check as check_canary
from allfocus.runtime.catalogue import entry
from allfocus.runtime.deblurrer import MEMORY, Deblurrer, Phases
from allfocus.runtime.errors import (
    AllfocusError,
    ArtefactError,
    BackendError,
    UsageError,
    nearest,
)
from allfocus.runtime.manifest import Flavour, read_manifest
from allfocus.runtime.memory import parse_bytes
from allfocus.runtime.model import Model
from allfocus.runtime.probe import BACKENDS, candidate
from allfocus.runtime.signature import Phase, Signature
from allfocus.runtime.skip import AUTO, Choice
from allfocus.runtime.spec import Color

log = logging.getLogger("allfocus")

_FLAVOURS: tuple[str, ...] = get_args(Flavour)
_ONNX = tuple(name for name in BACKENDS if name not in _FLAVOURS)
_CHOICES = {"auto": BACKENDS, "onnxruntime": _ONNX, **{name: (name,) for name in BACKENDS}}

_TWO: tuple[Phase, Phase] = ("estimate", "restore")

Find = Callable[[str], Sequence[Path]]  # a backend's name -> artefacts for it, best first
Reasons = list[tuple[str, str]]  # (backend, why it was not taken)


def load(
    model: str | Path = "didanet",
    *,
    backend: str = "auto",
    color: Color = "bgr",
    device: int = 0,
    threads: int = 0,
    memory: str | int = MEMORY,
    skip: Choice = AUTO,
    canary: bool = True,
) -> Deblurrer:
    """Load a model and return the object that deblurs frames.

    `model`: a name (see `allfocus.runtime.catalogue`), or a path to an .onnx or .engine file.
    `backend`: "tensorrt", "tensorrt-rtx", "cuda" or "cpu" (ONNX Runtime on a GPU or the CPU),
    "onnxruntime" (the better of those two), or "auto": the first of all four, in this order, that
    runs here; `Deblurrer.reasons` says why the others before it were not taken.
    `color`: the channel order of the frames, "bgr" as OpenCV gives them or "rgb".
    `device`: index of the GPU. `threads`: of the CPU backend; 0 takes every CPU there is.
    `memory`: what frames may take beside the model, such as "2GiB" or bytes. Larger frames are done
    in tiles, and give what they would give at once. On a GPU an engine has taken its memory when it
    was loaded: there, what is larger than the engine's size is done in tiles of it.
    `skip`: what the defocus map says is in focus is passed through, where "auto" chooses the radius
    (none where a model makes no map); a radius in pixels, or "off". A model by name with files of
    its two phases only; see `Result.skipped`.
    `canary`: run a frame whose answer is known, and refuse what answers otherwise.

    Engines come from the cache that `allfocus export` fills, newest first; one that does not fit
    this machine is logged as a warning and passed over. Raises UnknownModelError or UsageError for
    what cannot be meant, ArtefactError for a file that is missing, damaged or made for something
    else, and BackendError where no engine runs here.
    """
    _check(color, device, threads)
    _check_deblurs(model)
    skips.check(skip)
    parse_bytes(memory)
    options = Options(device=device, threads=threads, canary=canary)
    loaded, reasons = _open_first(model, backend, options)
    signature = loaded.graph.signature
    if not signature.deblurs:
        loaded.close()
        raise UsageError(_not_a_deblurrer(str(model), signature))
    phases = _phases(loaded, options) if _as_path(model) is None else None
    try:
        return Deblurrer(
            loaded, color=color, reasons=reasons, phases=phases, memory=memory, skip=skip
        )
    except AllfocusError:
        loaded.close()
        raise


def load_model(
    model: str | Path,
    *,
    backend: str = "auto",
    color: Color = "bgr",
    device: int = 0,
    threads: int = 0,
) -> Model:
    """Load any model or phase: its named pictures, maps and vectors go in, others come out.

    The parameters and errors are those of `load`.
    """
    _check(color, device, threads)
    loaded, reasons = _open_first(model, backend, Options(device=device, threads=threads))
    return Model(loaded, color=color, reasons=reasons)


def _phases(whole: Backend, options: Options) -> Phases | None:
    """How to open the two phases of a model; None where there are no files of them."""
    name = whole.spec.name
    if "restore" not in entry(name).signatures:
        return None
    try:
        estimates, restores = (_find(name, whole.name, phase) for phase in _TWO)
    except ArtefactError:
        return None

    def opened() -> tuple[Backend, Backend]:
        first = _matching(whole, estimates, options)
        try:
            return first, _matching(whole, restores, options)
        except AllfocusError:
            first.close()
            raise

    return opened


def _matching(whole: Backend, files: Sequence[Path], options: Options) -> Backend:
    """The first of `files` that has the weights and the face of `whole`."""
    for path in files:
        loaded = _open(whole.name, path, options)
        theirs = (loaded.spec.weights_sha256, loaded.graph.io, loaded.graph.color)
        if theirs == (whole.spec.weights_sha256, whole.graph.io, whole.graph.color):
            return loaded
        loaded.close()
    raise ArtefactError(
        f"{whole.artefact}: none of {', '.join(map(str, files))} has the same weights, face and "
        "channel order: export the phases again, with the options that the model was exported with"
    )


def _check_deblurs(model: str | Path) -> None:
    """Refuse the name of a model that is not a deblurrer before anything is looked for."""
    if _as_path(model) is None:
        signature = entry(str(model)).signature("whole")
        if not signature.deblurs:
            raise UsageError(_not_a_deblurrer(str(model), signature))


def _not_a_deblurrer(model: str, signature: Signature) -> str:
    return (
        f"{model} is not a deblurrer of single pictures ({signature}): open it with "
        "allfocus.load_model"
    )


def _open_first(model: str | Path, backend: str, options: Options) -> tuple[Backend, Reasons]:
    wanted = _wanted(backend)
    path = _as_path(model)
    if path is None:
        return _first(str(model), wanted, _by_name(str(model)), options)
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
                loaded = _open(name, artefact, options)
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


def _open(name: str, artefact: Path, options: Options) -> Backend:
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


def _by_name(name: str) -> Find:
    return lambda backend: _find(name, backend, "whole")


def _find(name: str, backend: str, phase: Phase) -> Sequence[Path]:
    in_onnx = backend not in _FLAVOURS
    return [find_onnx(name, phase)] if in_onnx else find_engines(name, backend, phase)


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


def _as_path(model: str | Path) -> Path | None:
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


def _check(color: str, device: int, threads: int) -> None:
    if color not in get_args(Color):
        raise UsageError(f'color: expected "bgr" or "rgb", got {color!r}')
    if device < 0 or threads < 0:
        raise UsageError(f"expected device and threads of 0 or more, got {device} and {threads}")
