"""From a model's name or a file to a Deblurrer, or a Model, on the best engine there is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from allfocus.runtime import skip as skips
from allfocus.runtime.artefacts import phases_beside
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.catalogue import entry
from allfocus.runtime.deblurrer import MEMORY, Deblurrer, Phases
from allfocus.runtime.ensemble import Ensemble
from allfocus.runtime.ensemble import check as check_ensemble
from allfocus.runtime.errors import AllfocusError, ArtefactError, UsageError
from allfocus.runtime.memory import Allowance, parse_bytes
from allfocus.runtime.model import Model
from allfocus.runtime.opening import as_path, find, open_first, opened
from allfocus.runtime.reach import check as check_reach
from allfocus.runtime.signature import Phase, Signature
from allfocus.runtime.skip import AUTO, Choice
from allfocus.runtime.spec import IOS, USUAL, Color, Io, Wanted
from allfocus.runtime.trust import CHECKER, check_fallback
from allfocus.runtime.ways import model_of

log = logging.getLogger("allfocus")

_TWO: tuple[Phase, Phase] = ("estimate", "restore")
Files = Sequence[Sequence[Path]]  # of each of the two


def load(
    model: str | Path = "didanet-lite",
    *,
    backend: str = "auto",
    precision: Wanted = "auto",
    color: Color = "bgr",
    io: Io | None = None,
    device: int = 0,
    threads: int = 0,
    streams: int = 1,
    memory: str | int | None = None,
    skip: Choice = AUTO,
    check: bool = False,
    fallback: float | None = None,
    ensemble: Ensemble = 1,
    reach: float | None = None,
    canary: bool = True,
) -> Deblurrer:
    """Load a model and return the object that deblurs frames.

    `model`: a name (see `allfocus.runtime.catalogue`), or a path to an .onnx or .engine file.
    `backend`: "tensorrt", "tensorrt-rtx", "cuda" or "cpu" (ONNX Runtime on a GPU or the CPU),
    "openvino" (on the CPU), "onnxruntime" (the better of its two), or "auto": the first on a GPU,
    in this order, that runs here, else the faster on the CPU. `Deblurrer.reasons` says why the
    others were not taken.
    `precision`: what is computed in. On a CPU "fp32"; "bf16", in OpenVINO, where the CPU has
    instructions for it; and "int8", which takes a file of its own. "auto" is the fastest of them
    for which there are files: how fast each is is measured once on a machine, and remembered. An
    engine, and a file by path, has the precision that it was exported with; in OpenVINO a file of
    fp32 can be computed in bf16 as well.
    `color`: the channel order of the frames, "bgr" as OpenCV gives them or "rgb".
    `io`: where frames are not colour frames of 8 bits, the face that files of a model by name must
    have, as they were exported: "frame16", "nv12" or "p010". The last two have no `color`.
    `device`: index of the GPU. `threads`: of the CPU backend; 0 takes every CPU there is.
    `streams`: how many calls, each from a thread of its own, may be at work at once. On a GPU each
    takes memory for the engine's work and its frames; they share the model. On a CPU they share the
    `threads` too.
    `memory`: what runs may take beside the model and whole frames, maps and results, of all streams
    together, such as "2GiB", which is the default, or bytes. Larger frames are done in tiles, and
    give what they would give at once; what no tile is small enough for raises LimitError before any
    work. A graph that was exported for one size takes what that takes, and a TensorRT engine takes
    its memory when it is loaded: there, what is larger is done in tiles of their size. An engine
    for which the `memory` that is given does not suffice, beside those of the model's phases and of
    the check that are loaded already, is not taken: BackendError.
    `skip`: what the defocus map says is in focus is passed through, where "auto" chooses the radius
    (none where a model makes no map); a radius in pixels, or "off". Only with files of its two
    phases, which `allfocus export --phase all` makes (by path: in the cache, or beside its own
    under the names that they were given), and not of frames in GPU memory; see `Result.skipped`.
    `check`: blur every output again by `jdrl-reblur` and compare it with its input; see
    `Result.trust`. It takes two to three times as long as didanet-lite.
    `fallback`: a trust, above 0 and up to 1, under which the input shows through an output, the
    more the less it is trusted; outputs are checked then.
    `ensemble`: 2, 4 or 8 deblur each frame turned too, and give the mean: better, and that many
    times as long; see `runtime.ensemble`. "map": only the map is the mean of two, which costs what
    estimating it costs; of models with a map, and files of their phases. Not of frames in GPU
    memory.
    `reach`: a blur radius in pixels that is to be undone, up to eight times the model's own
    (`Spec.max_radius`, 8 pixels of `didanet-lite`): frames are deblurred at a half, a quarter and
    so on of their size too, and the map goes as far; see `runtime.reach`. It takes a third to
    a half more time; a graph of one size is run as a whole for each level. Not of frames in GPU
    memory, and of models with a map of radii only.
    `canary`: run a frame whose answer is known, and refuse what answers otherwise.

    Engines come from the cache that `allfocus export` fills, newest first; one that does not fit
    this machine is logged as a warning and passed over. Raises UnknownModelError or UsageError for
    what cannot be meant, ArtefactError for a file that is missing, damaged or made for something
    else, and BackendError where no engine runs here.
    """
    _check_color(color)
    _check_io(model, io)
    _check_deblurs(model)
    _check_switches(check=check, canary=canary)
    skip, fallback = skips.check(skip), check_fallback(fallback)
    check_reach(reach)
    check_ensemble(ensemble)  # refused before anything is opened
    limit = None if memory is None else parse_bytes(memory)
    options = Options(
        device=device,
        threads=threads,
        streams=streams,
        precision=precision,
        canary=canary,
        memory=None if limit is None else Allowance(limit),
    )
    loaded, reasons = open_first(model, backend, options, io)
    signature = loaded.graph.signature
    if not signature.deblurs:
        loaded.close()
        raise UsageError(_not_a_deblurrer(str(model), signature))
    path = as_path(model)
    files = _in_store(loaded, io) if path is None else _of_file(path, loaded)
    phases = _phases(loaded, options, files)
    with ExitStack() as stack:
        stack.callback(loaded.close)
        checker = None
        if check or fallback is not None:
            # It judges outputs of any precision, and may not be there in theirs.
            exact = options.precision if options.precision == "fp32" else "auto"
            checker, _ = open_first(CHECKER, backend, replace(options, precision=exact))
            stack.callback(checker.close)
        deblur = Deblurrer(
            loaded,
            color=color,
            reasons=reasons,
            phases=phases,
            memory=limit or MEMORY,
            skip=skip,
            checker=checker,
            fallback=fallback,
            ensemble=ensemble,
            reach=reach,
        )
        stack.pop_all()  # they are the Deblurrer's now
    return deblur


def _check_switches(**switches: object) -> None:
    """Refuse what is no bool: "no" of a file of settings would switch on."""
    for name, value in switches.items():
        if not isinstance(value, bool | np.bool_):
            raise UsageError(f"{name}: expected True or False, got {value!r}")


def load_model(
    model: str | Path,
    *,
    backend: str = "auto",
    precision: Wanted = "auto",
    color: Color = "bgr",
    io: Io | None = None,
    device: int = 0,
    threads: int = 0,
    streams: int = 1,
) -> Model:
    """Load any model or phase: its named pictures, maps and vectors go in, others come out.

    The parameters and errors are those of `load`.
    """
    _check_color(color)
    _check_io(model, io)
    options = Options(device=device, threads=threads, streams=streams, precision=precision)
    loaded, reasons = open_first(model, backend, options, io)
    return Model(loaded, color=color, reasons=reasons)


def _in_store(whole: Backend, io: Io | None) -> Files | None:
    """Files of a model's phases in the package and the cache; None where those of one are not."""
    name = whole.spec.name
    try:
        return [find(name, whole.name, phase, io, whole.graph.precision) for phase in _TWO]
    except ArtefactError:
        return None


def _of_file(path: Path, whole: Backend) -> Files | None:
    """Files of the phases of a model that was opened by its path: beside it, or, where it is the
    cache's, which has a folder for each, among those."""
    beside = phases_beside(path, whole.spec.name)
    if beside or not path.resolve().is_relative_to(cache_dir().resolve()):
        return beside
    face = whole.graph.io
    return _in_store(whole, None if face in USUAL else face)


def _phases(whole: Backend, options: Options, files: Files | None) -> Phases | None:
    """How to open the two phases of a model; None where there are no files of them, or none that
    go with the whole, such as after another training."""
    if files is None or "restore" not in entry(whole.spec.name).signatures:
        return None
    estimates, restores = (_told_alike(whole, each) for each in files)
    if not estimates or not restores:
        log.warning(
            "%s: its phases are of other weights or another face, so nothing is passed through: "
            "export them all again, with --phase all",
            whole.artefact,
        )
        return None

    def both() -> tuple[Backend, Backend]:
        first = _matching(whole, estimates, options)
        try:
            return first, _matching(whole, restores, options)
        except AllfocusError:
            first.close()
            raise

    return both


def _told_alike(whole: Backend, files: Sequence[Path]) -> list[Path]:
    """Those of `files` that say of themselves to have weights, face, and precision of `whole`."""
    return [path for path in files if model_of(path) == _kind(whole)[:3]]


def _matching(whole: Backend, files: Sequence[Path], options: Options) -> Backend:
    """The first of `files` that has the weights, the face and the precisions of `whole`."""
    alike = replace(options, precision=whole.precision)
    for path in files:
        loaded = opened(whole.name, path, alike)
        if _kind(loaded) == _kind(whole):
            return loaded
        loaded.close()
    raise ArtefactError(
        f"{whole.artefact}: none of {', '.join(map(str, files))} has the same weights, the "
        f"face {whole.graph.face}, the precision {whole.precision} and, in 8 bits, the ranges: "
        "export the phases again, with the options that the model was exported with"
    )


def _kind(backend: Backend) -> tuple[str, ...]:
    """What the graphs that one frame passes through have in common."""
    graph = backend.graph
    weights = backend.spec.weights_sha256
    return (weights, graph.face, graph.precision, backend.precision, backend.bits)


def _check_deblurs(model: str | Path) -> None:
    """Refuse the name of a model that is not a deblurrer before anything is looked for."""
    if as_path(model) is None:
        signature = entry(str(model)).signature("whole")
        if not signature.deblurs:
            raise UsageError(_not_a_deblurrer(str(model), signature))


def _not_a_deblurrer(model: str, signature: Signature) -> str:
    return (
        f"{model} is not a deblurrer of single pictures ({signature}): open it with "
        "allfocus.load_model"
    )


def _check_io(model: str | Path, io: Io | None) -> None:
    if io is None:
        return
    if io in USUAL or io not in IOS:
        others = ", ".join(face for face in IOS if face not in USUAL)
        raise UsageError(
            f"io: expected one of {others}, got {io!r}; leave it out for colour frames of 8 bits"
        )
    if as_path(model) is not None:
        raise UsageError(f"io={io!r}: the file {model} has the face that it was exported with")


def _check_color(color: str) -> None:
    if color not in get_args(Color):
        raise UsageError(f'color: expected "bgr" or "rgb", got {color!r}')
