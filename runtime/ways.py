"""The ways to run a model here: an engine, a file for it, and what it computes in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from allfocus.runtime.abilities import NO_VNNI, lacks
from allfocus.runtime.artefacts import find_onnx
from allfocus.runtime.catalogue import entry
from allfocus.runtime.contract import Contract, read_contract
from allfocus.runtime.errors import ArtefactError, BackendError, UsageError
from allfocus.runtime.manifest import Manifest, read_manifest
from allfocus.runtime.onnx_file import metadata
from allfocus.runtime.ov import COMPUTES, no_bf16
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import Graph, Io, Precision, Wanted

log = logging.getLogger("allfocus")

# What engines on the CPU compute in, and the precision of the file that they need for it.
_FILES: dict[str, dict[Precision, Precision]] = {
    "cpu": {"fp32": "fp32", "fp16": "fp16", "int8": "int8"},
    "openvino": {"fp32": "fp32", "bf16": "fp32", "int8": "int8"},
}
_PHASES: tuple[Phase, ...] = ("estimate", "restore")


@dataclass(frozen=True)
class Way:
    """One way to run a model. `precision` "auto": as the file is."""

    backend: str
    artefact: Path
    precision: Wanted = "auto"

    @property
    def label(self) -> str:
        """For people: openvino bf16."""
        return self.backend if self.precision == "auto" else f"{self.backend} {self.precision}"


def graph_of(path: Path) -> Graph:
    """What an ONNX file says of its graph, by its metadata; raises ArtefactError without them."""
    return read_contract(path, metadata(path)).graph


def model_of(path: Path) -> tuple[str, ...]:
    """The weights, face and precision that an engine or an ONNX file says it has: what must be
    alike in files that belong together. Nothing where it says nothing that can be read.
    """
    try:
        said: Manifest | Contract
        said = (
            read_manifest(path) if path.suffix == ".engine" else read_contract(path, metadata(path))
        )
    except ArtefactError:
        return ()
    return (said.spec.weights_sha256, said.graph.face, said.graph.precision)


def precision_of(path: Path) -> Precision:
    """The precision of an ONNX file, as `graph_of`."""
    return graph_of(path).precision


def check_computes(backends: Sequence[str], precision: Wanted) -> None:
    """Raise UsageError where none of the backends asked for can compute in `precision`."""
    if precision == "auto" or not set(backends) <= set(_FILES):
        return
    if not any(precision in _FILES[name] for name in backends):
        able = "; ".join(f"{name} computes in {', '.join(_FILES[name])}" for name in backends)
        raise UsageError(
            f"precision {precision!r} with backend {' or '.join(backends)}: {able}; choose one of "
            "these, or leave the backend at 'auto'"
        )


def ways_by_name(name: str, backend: str, io: Io | None, precision: Wanted) -> list[Way]:
    """How an engine on the CPU can run a model by name, the most exact first.

    Where `precision` is "auto", that is every way for which there are files: those of 8 bits count
    only where the CPU has instructions for them, where their weights and their face are those of
    the newest file in floating point, and where the model's phases are there in 8 bits, too, as
    nothing could be passed through without them. Raises ArtefactError for a missing file,
    BackendError for what does not compute.
    """
    if precision != "auto":
        return [_way(name, backend, io, precision)]
    base = find_onnx(name, "whole", io)[0]
    ways = [Way(backend, base, each) for each in _computed(backend, precision_of(base))]
    if not lacks("int8"):
        ways += _in_8_bits(name, backend, io, base)
    return ways


def left_out(ways: Sequence[Way], wanted: Wanted) -> list[tuple[str, str]]:
    """What is not among `ways` to run a model by name, as this CPU cannot do it, and why."""
    if wanted != "auto":
        return []
    engines = dict.fromkeys(way.backend for way in ways if way.backend in _FILES)
    reasons = [("openvino bf16", no_bf16())] if "openvino" in engines and lacks("bf16") else []
    return reasons + [(f"{each} int8", NO_VNNI) for each in engines if lacks("int8")]


@cache
def _warn_slow() -> None:
    """Once, where 8 bits bring nothing."""
    if lacks("int8"):
        log.warning("this CPU has %s", NO_VNNI)


def _way(name: str, backend: str, io: Io | None, precision: Precision) -> Way:
    if precision == "int8":
        _warn_slow()
    files = find_onnx(name, "whole", io, _file(backend, precision), backend)
    return Way(backend, files[0], precision)


def ways_of_file(path: Path, backend: str, precision: Wanted) -> list[Way]:
    """How an engine can run this ONNX file; raises BackendError where it cannot, or not in
    `precision`."""
    own = precision_of(path)
    if precision == "auto":
        able = _computed(backend, own)
        if not able:
            raise BackendError(_no_way(backend, own))
        return [Way(backend, path, each) for each in able]
    if precision not in _possible(backend, own):
        raise BackendError(f"{backend} computes a file of {own} not in {precision}")
    return [Way(backend, path, precision)]


def check_file(path: Path, backends: Sequence[str], precision: Wanted) -> None:
    """Raise UsageError where none of the backends computes this ONNX file in `precision`."""
    if precision == "auto":
        return
    own = precision_of(path)
    if not any(precision in _possible(backend, own) for backend in backends):
        able = "; ".join(f"{each}: {', '.join(_possible(each, own))}" for each in backends)
        make = f"make one with `allfocus export --model NAME --precision {precision} --onnx-only`"
        other = "take the backend 'openvino'" if precision in COMPUTES.get(own, ()) else make
        raise UsageError(
            f"{path}: a file of {own}, which is not computed in {precision} ({able}): leave the "
            f"precision at 'auto', or {other}"
        )


def _file(backend: str, precision: Precision) -> Precision:
    """The precision of the file for it; raises BackendError where it cannot be computed here."""
    files = _FILES[backend]
    if precision not in files:
        raise BackendError(f"{backend} computes in {', '.join(files)}, not in {precision}")
    if precision == "bf16" and lacks("bf16"):
        raise BackendError(no_bf16())
    return files[precision]


def _possible(backend: str, own: Precision) -> tuple[Precision, ...]:
    """What a file of this precision may be computed in."""
    if backend == "cpu" and own == "bf16":
        return ()
    return COMPUTES.get(own, ()) if backend == "openvino" else (own,)


def _no_way(backend: str, own: Precision) -> str:
    """Why a file of this precision cannot be computed."""
    return (
        f"{backend} computes no file of {own} on this CPU: export it in fp32, which OpenVINO "
        "computes in bf16 too, where a CPU has instructions for it"
    )


def _computed(backend: str, own: Precision) -> tuple[Precision, ...]:
    """Those of them that this CPU has instructions for."""
    return tuple(p for p in _possible(backend, own) if p != "bf16" or not lacks("bf16"))


def _in_8_bits(name: str, backend: str, io: Io | None, base: Path) -> list[Way]:
    """How to run what `base` is in 8 bits; nothing where a phase that is there at all lacks them.

    The newest file of another training, or for frames of another matrix, is another model.
    """
    wanted = model_of(base)[:2]
    found: list[Path] = []
    for phase in ("whole", *(phase for phase in _PHASES if phase in entry(name).signatures)):
        small = _alike(_files(name, backend, phase, io, "int8"), wanted)
        if not small and _alike(_files(name, backend, phase, io, "auto"), wanted):
            return []
        found += small[:1] if phase == "whole" else []
    return [Way(backend, path, "int8") for path in found]


def _alike(files: Sequence[Path], wanted: tuple[str, ...]) -> list[Path]:
    """Those that have these weights and this face."""
    return [path for path in files if model_of(path)[:2] == wanted]


def _files(name: str, backend: str, phase: Phase, io: Io | None, precision: Wanted) -> list[Path]:
    """As `find_onnx`, but nothing is an empty list."""
    try:
        return find_onnx(name, phase, io, precision, backend)
    except ArtefactError:
        return []
