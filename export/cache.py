"""The cache of exports: one folder a key, and the key is a hash of everything that goes in.

Asking it imports none of the heavy packages, whose versions it reads from their metadata.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from dataclasses import asdict
from hashlib import sha256 as new_digest
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import allfocus
from allfocus.export.plan import Plan
from allfocus.export.reduction import Reduction
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.manifest import Manifest, read_manifest, sha256

log = logging.getLogger("allfocus")

PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "safetensors")  # what an export needs
_INSTEAD = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml")}
_OPENCV = tuple(  # any of these brings cv2
    f"opencv-{kind}python{form}" for kind in ("", "contrib-") for form in ("", "-headless")
)
_SOURCES = (  # what decides how a net becomes an engine; a package means all its modules
    "allfocus.export",
    "allfocus.kernels",
    "allfocus.train",  # nets' weights, and the pictures that 8 bits are calibrated and judged on
    "allfocus.train.models",
    "allfocus.runtime.canary",
    "allfocus.runtime.catalogue",
    "allfocus.runtime.layout",
    "allfocus.runtime.signature",
    "allfocus.runtime.spec",
    "allfocus.runtime.ycbcr",
)


def versions() -> dict[str, str]:
    """The versions of the packages an export needs; raises BackendError where one is missing."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        found |= _first_of(name, *_INSTEAD.get(name, ()))
    return found


def _first_of(*names: str) -> dict[str, str]:
    """The first that is installed, and its version; the others bring the same module."""
    for name in names:
        with suppress(metadata.PackageNotFoundError):
            return {name: metadata.version(name)}
    raise BackendError(
        f'{names[0]} is not installed, and exporting needs it: pip install "allfocus[export]"'
    )


def _of_pictures() -> dict[str, str]:
    """The versions of what reads and resizes the pictures that 8 bits are calibrated on."""
    found = {}
    for name in ("numpy", *_OPENCV):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def key_of(plan: Plan) -> str:
    """The cache key of `plan`, 64 hex digits: equal where the same files would come out."""
    parts = {
        "allfocus": allfocus.__version__,
        "model": plan.model,
        "weights": plan.weights.identity(),
        "graph": plan.graph.to_dict(),
        "target": asdict(plan.target) if plan.target else None,
        "plugins": sha256(plan.plugins) if plan.plugins else None,
        "fp32_layers": plan.fp32_layers,
        "reduction": _reduction(plan.model, plan.reduction),
        "versions": {**versions(), **_of_pictures()},
        "sources": sources_digest(),
    }
    return new_digest(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sources_digest() -> str:
    """64 hex digits that tell one state of what decides how a net becomes an engine from others."""
    hashes = {name: sha256(path) for name, path in sorted(_sources().items())}
    return new_digest(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def folder_of(plan: Plan, key: str) -> Path:
    """The cache's folder for `plan`."""
    return cache_dir() / f"{plan.model}-{key[:16]}"


def find(folder: Path, plan: Plan, key: str) -> Manifest | None:
    """The manifest of what `plan` made in `folder` before, its files checked; None to make it."""
    engine = folder / f"{plan.stem}.engine"
    if not engine.exists():
        return None
    try:
        manifest = read_manifest(engine)
        if manifest.key != key:
            return None
        _check_onnx(folder / manifest.onnx, manifest.onnx_sha256)
    except ArtefactError as error:
        log.warning("%s; now it is made again", error)
        return None
    return manifest


def _reduction(model: str, how: Reduction | None) -> dict[str, object] | None:
    """How 8 bits are found; of the user's own files what is in them."""
    if how is None:
        return None
    from allfocus.export.eight_bits import packaged_ranges
    from allfocus.train.pairs import list_images

    folder = how.calibrate if how.calibrate and how.calibrate.is_dir() else None
    pictures = [*list_images(folder), *folder.glob("*.json")] if folder else []
    known = packaged_ranges(model)
    return {
        **asdict(how),
        "ranges": sha256(how.ranges) if how.ranges and how.ranges.is_file() else None,
        "calibrate": [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(pictures)],
        "packaged": sha256(known) if known.is_file() else None,
    }


def _sources() -> dict[str, Path]:
    """Files by module or file name."""
    files: dict[str, Path] = {}
    for name in _SOURCES:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        path = Path(spec.origin)
        package = spec.submodule_search_locations is not None
        files |= {f"{name}:{p.name}": p for p in (path.parent.glob("*.py") if package else (path,))}
    return files


def _check_onnx(path: Path, digest: str) -> None:
    if not path.is_file() or sha256(path) != digest:
        raise ArtefactError(f"{path}: missing, or not the file the engine was built from")
