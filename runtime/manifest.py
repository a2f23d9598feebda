"""The manifest: the `.json` beside every engine, checked in full before the engine is loaded."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.spec import Graph, Spec, from_fields

SCHEMA = 2
Flavour = Literal["tensorrt", "tensorrt-rtx"]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an engine is, what it was made from, and for which machines."""

    schema: int
    allfocus: str  # version of this project
    spec: Spec
    graph: Graph
    flavour: Flavour
    flavour_version: str  # of TensorRT or TensorRT for RTX, as its __version__
    targets: tuple[str, ...]  # compute capabilities, such as "sm86"
    key: str  # the cache key: a hash of everything that went in
    engine_sha256: str
    engine_bytes: int
    onnx: str  # file name of the ONNX file beside it
    onnx_sha256: str
    build_seconds: float
    canary: str  # what the graph answers to the golden frame, or nothing; see `runtime.canary`
    parity: dict[str, float]  # max_abs, mean_abs, psnr_db against PyTorch fp32
    options: dict[str, str | int | float | bool]  # of the builder

    @property
    def plugins(self) -> bool:
        """Whether the engine needs this project's TensorRT plugins."""
        return self.options.get("plugins", False) is True

    def to_json(self) -> str:
        """Indented JSON, for people too."""
        data = asdict(self)
        data["graph"] = self.graph.to_dict()
        return json.dumps(data, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, what: str = "manifest") -> Manifest:
        """Inverse of `to_json`; raises ArtefactError, which names `what`, on anything else."""
        try:
            data: Any = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ArtefactError(f"{what}: not JSON ({error}); {_AGAIN}") from None
        if isinstance(data, dict) and data.get("schema") != SCHEMA:
            raise ArtefactError(
                f"{what}: schema {data.get('schema')!r}, this version reads {SCHEMA}; {_AGAIN}"
            )
        raw = from_fields(cls, data, what)
        try:
            graph = Graph.from_dict(raw.graph)
        except ArtefactError as error:
            raise ArtefactError(f"{what}: {error}") from None
        changed = {
            "spec": from_fields(Spec, raw.spec, f"{what}: spec"),
            "graph": graph,
            "targets": tuple(raw.targets),
        }
        return cls(**{**data, **changed})


_AGAIN = "export it again with `allfocus export --force`"


def manifest_path(engine: Path) -> Path:
    """Where an engine's manifest stands: `x.engine` has `x.json`."""
    return engine.with_suffix(".json")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def read_manifest(engine: Path) -> Manifest:
    """Read the manifest beside `engine` and check the engine's bytes against it.

    Raises ArtefactError where either file is missing, or the engine was cut short or changed.
    """
    if not engine.is_file():
        raise ArtefactError(f"{engine}: no such engine; make it with `allfocus export`")
    beside = manifest_path(engine)
    if not beside.is_file():
        raise ArtefactError(
            f"{engine}: its manifest {beside.name} is missing, so nothing says what the engine is "
            f"for; {_AGAIN}"
        )
    text = beside.read_text(encoding="utf-8", errors="replace")  # bytes that are no text: no JSON
    manifest = Manifest.from_json(text, f"manifest {beside}")
    size = engine.stat().st_size
    if size != manifest.engine_bytes:
        raise ArtefactError(
            f"{engine}: {size} bytes, its manifest says {manifest.engine_bytes}: the file was cut "
            f"short or replaced; {_AGAIN}"
        )
    if sha256(engine) != manifest.engine_sha256:
        raise ArtefactError(f"{engine}: its bytes differ from what was built; {_AGAIN}")
    return manifest
