"""What an ONNX file says of itself in its metadata, and whether its tensors are as it says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.layout import layout
from allfocus.runtime.spec import CANARY_KEY, GRAPH_KEY, LOSS_KEY, MEMORY_KEY, SPEC_KEY, Graph, Spec

_BITS = ("dialect", "kept", "ranges", "ranges_sha256")  # of the label of 8 bits


@dataclass(frozen=True)
class Contract:
    """The metadata of an ONNX file. `memory`: bytes that ONNX Runtime takes for each pixel."""

    spec: Spec
    graph: Graph
    canary: str
    memory: float | None
    bits: str  # how it was brought to 8 bits, so that phases can be compared; "" where it was not


def read_contract(artefact: Path, metadata: Mapping[str, str]) -> Contract:
    """The contract in a file's metadata; raises ArtefactError where it is not a whole one."""
    if SPEC_KEY not in metadata or GRAPH_KEY not in metadata:
        raise ArtefactError(
            f"{artefact}: exported without allfocus' metadata, so its sizes and layout "
            "are not known: export it with `allfocus export`"
        )
    try:
        spec = Spec.from_json(metadata[SPEC_KEY])
        graph = Graph.from_json(metadata[GRAPH_KEY])
        memory = _memory(metadata[MEMORY_KEY]) if MEMORY_KEY in metadata else None
    except ArtefactError as error:
        raise ArtefactError(f"{artefact}: {error}") from None
    return Contract(spec, graph, metadata.get(CANARY_KEY, ""), memory, _bits(metadata))


def _memory(text: str) -> float:
    """Bytes for each pixel; raises ArtefactError."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 < amount < math.inf:
        raise ArtefactError(
            f"{MEMORY_KEY}: expected bytes for each pixel, got {text!r}; export it again with "
            "`allfocus export --force`"
        )
    return amount


def _bits(metadata: Mapping[str, str]) -> str:
    try:
        label = json.loads(metadata.get(LOSS_KEY, "{}"))
        return json.dumps({k: label[k] for k in _BITS if k in label}) if label else ""
    except (ValueError, TypeError):
        return ""


def check_face(
    artefact: Path, graph: Graph, inputs: Mapping[str, str], outputs: Mapping[str, str]
) -> None:
    """The names and types of all tensors must be those of the metadata, else ArtefactError.

    Types are those of NumPy, such as float32; what it has none for is named as the engine does.
    """
    signature = graph.signature
    for names, found in ((signature.inputs, inputs), (signature.outputs, outputs)):
        expected = {name: layout(name, graph.io).dtype.name for name in names}
        if found != expected:
            raise ArtefactError(
                f"{artefact}: its tensors {dict(found)} do not fit its metadata, {expected} "
                f"(face {graph.io!r}); export it again with `allfocus export --force`"
            )
