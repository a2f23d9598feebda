"""Finding what `allfocus export` made: engines and ONNX files in the cache and in the package."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import allfocus
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.manifest import Manifest
from allfocus.runtime.signature import Phase

log = logging.getLogger("allfocus")


def find_engines(name: str, flavour: str, phase: Phase = "whole") -> list[Path]:
    """Engines of a phase of the model `name` for one flavour of TensorRT, newest first.

    Only manifests are read here; the backend checks the engine. A manifest that cannot be read is
    logged as a warning. Raises ArtefactError where there is no engine.
    """
    folder = cache_dir()
    manifests = [path for path in folder.glob("*/*.json") if _is_for(path, (name, flavour, phase))]
    if not manifests:
        raise ArtefactError(
            f"no engine of {_stem(name, phase)!r} in {folder}: make one with "
            f"`allfocus export --model {name}{_option(phase)} --backend {flavour}`"
        )
    return [path.with_suffix(".engine") for path in _newest_first(manifests)]


def find_onnx(name: str, phase: Phase = "whole") -> Path:
    """The ONNX file of a phase of a model: the package's own, else the newest one in the cache.

    Raises ArtefactError with the command that makes one.
    """
    stem = _stem(name, phase)
    packaged = packaged_onnx(stem)
    if packaged.is_file():
        return packaged
    # Named MODEL-PRECISION-SIZE: "didanet-*" would find didanet-tiny and didanet-restore too.
    cached = _newest_first(cache_dir().glob(f"*/{stem}-fp[13]*.onnx"))
    if not cached:
        raise ArtefactError(
            f"{stem!r} is not exported on this machine yet: run `allfocus export --model "
            f"{name}{_option(phase)}`"
        )
    return cached[0]


def packaged_onnx(stem: str) -> Path:
    """Where the package carries a model (or MODEL-PHASE), if it carries it."""
    return Path(allfocus.__file__).parent / "data" / f"{stem}.onnx"


def _stem(name: str, phase: Phase) -> str:
    return name if phase == "whole" else f"{name}-{phase}"


def _option(phase: Phase) -> str:
    return "" if phase == "whole" else f" --phase {phase}"


def _is_for(path: Path, wanted: tuple[str, str, str]) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        manifest = Manifest.from_json(text, f"manifest {path}")
    except (ArtefactError, OSError) as error:
        log.warning("passed over: %s", error)
        return False
    return (manifest.spec.name, manifest.flavour, manifest.graph.phase) == wanted


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
