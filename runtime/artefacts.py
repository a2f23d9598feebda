"""Finding what `allfocus export` made: engines and ONNX files in the cache and in the package."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import allfocus
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.manifest import Manifest
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import PRECISIONS, USUAL, Io, Precision, Wanted

_FOR_CPU = {"int8": " --for ort"}  # TensorRT's 8 bits are written otherwise

log = logging.getLogger("allfocus")


def find_engines(
    name: str,
    flavour: str,
    phase: Phase = "whole",
    io: Io | None = None,
    precision: Wanted = "auto",
) -> list[Path]:
    """Engines of a phase of the model `name` for one flavour of TensorRT, newest first.

    Those with the face `io`; without one, those that take colour frames of 8 bits. With a
    `precision` other than "auto", those of it.
    Only manifests are read here; the backend checks the engine. A manifest that cannot be read is
    logged as a warning. Raises ArtefactError where there is no engine.
    """
    folder = cache_dir()
    faces, wanted = (io,) if io else USUAL, (name, flavour, phase)
    kinds = PRECISIONS if precision == "auto" else (precision,)
    beside = (path.with_suffix(".json") for path in folder.glob("*/*.engine"))
    manifests = [p for p in beside if p.is_file() and _is_for(p, wanted, faces, kinds)]
    if not manifests:
        raise ArtefactError(
            f"no engine of {_stem(name, phase)!r} in {folder}: make one with "
            f"`allfocus export --model {name}{_option(phase, io)}{_precision(precision)} "
            f"--backend {flavour}`"
        )
    return [path.with_suffix(".engine") for path in _newest_first(manifests)]


def find_onnx(
    name: str,
    phase: Phase = "whole",
    io: Io | None = None,
    precision: Wanted = "auto",
    backend: str = "cpu",
) -> list[Path]:
    """The ONNX files of a phase of a model: the package's own, then those in the cache, the newest
    first.

    `io` as for `find_engines`. `precision` is the file's; "auto" is any in floating point. In 8
    bits, files made for `backend` alone come before those for all. Raises ArtefactError with the
    command that makes one, where there is none.
    """
    stem = _stem(name, phase)
    found: list[Path] = []
    for kind in _kinds(precision, backend):
        packaged = packaged_onnx(f"{stem}-{kind}" if precision == "int8" else stem)
        if io is None and precision in ("auto", "fp32", "int8") and packaged.is_file():
            found.append(packaged)
        # MODEL-PRECISION-SIZE: "didanet-*" would find didanet-tiny and didanet-restore too.
        face = "" if io is None else f"-{io}"
        found += _newest_first(cache_dir().glob(f"*/{stem}{face}-{kind}{_rest(kind)}.onnx"))
    if found:
        return found
    which = "" if precision == "auto" else f" in {precision}"
    raise ArtefactError(
        f"{stem!r} is not exported{which} on this machine yet: run `allfocus export --model "
        f"{name}{_option(phase, io)}{_precision(precision)}{_FOR_CPU.get(precision, '')} "
        "--onnx-only`"
    )


def _kinds(precision: Wanted, backend: str) -> tuple[str, ...]:
    """How files of it are called, the best first, as patterns."""
    if precision == "auto":
        return ("fp[13][26]",)
    own = (f"{precision}-{backend}",) if (precision, backend) == ("int8", "openvino") else ()
    return (*own, precision)


def _rest(kind: str) -> str:
    """What may follow it in a file's name: a size, but no engine that it is for alone."""
    return "-[0-9]*" if kind == "int8" else "*"


def phases_beside(path: Path, name: str) -> list[list[Path]] | None:
    """Files of the two phases beside one of the whole model `name`; None where one is missing.

    They are called as `allfocus export` calls them, didanet-estimate-fp16-600x400.onnx, or as
    `export/to_onnx.py --out mine.onnx` does, mine-estimate.onnx.
    """
    calls: list[Callable[[Phase], Path]] = [lambda phase: beside(path, phase)]
    if path.name.startswith(name):
        end = path.name.removeprefix(name)
        calls.append(lambda phase: path.with_name(f"{name}-{phase}{end}"))
    for called in calls:
        files = [called("estimate"), called("restore")]
        if all(file.is_file() for file in files):
            return [[file] for file in files]
    return None


def beside(path: Path, phase: Phase) -> Path:
    """The file of a phase of the model whose whole is `path`: mine.onnx has mine-estimate.onnx."""
    return path if phase == "whole" else path.with_stem(f"{path.stem}-{phase}")


def packaged_onnx(stem: str) -> Path:
    """Where the package carries a model (or MODEL-PHASE), if it carries it."""
    return _data() / f"{stem}.onnx"


def packaged_weights(model: str) -> Path:
    """Where the package carries the weights of `model`, if it carries them."""
    return _data() / f"{model}.safetensors"


def _data() -> Path:
    return Path(allfocus.__file__).parent / "data"


def _stem(name: str, phase: Phase) -> str:
    return name if phase == "whole" else f"{name}-{phase}"


def _option(phase: Phase, io: Io | None) -> str:
    options = "" if phase == "whole" else f" --phase {phase}"
    return options if io is None else f"{options} --io {io}"


def _precision(precision: Wanted) -> str:
    return "" if precision == "auto" else f" --precision {precision}"


def _is_for(
    path: Path,
    wanted: tuple[str, str, str],
    faces: tuple[Io, ...],
    precisions: tuple[Precision, ...],
) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        manifest = Manifest.from_json(text, f"manifest {path}")
    except (ArtefactError, OSError) as error:
        log.warning("passed over: %s", error)
        return False
    found = (manifest.spec.name, manifest.flavour, manifest.graph.phase)
    graph = manifest.graph
    return found == wanted and graph.io in faces and graph.precision in precisions


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
