"""Models with random weights as ONNX files, each exported once a session."""

from __future__ import annotations

import json
from pathlib import Path

from allfocus.export import to_onnx
from allfocus.export.verify import verify
from allfocus.runtime.catalogue import entry
from allfocus.runtime.lock import locked
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import Graph, Io, Precision, Shapes, Size
from allfocus.train import checkpoint


def graph_of(name: str, phase: Phase, io: Io, precision: Precision, shapes: Shapes | None) -> Graph:
    signature = entry(name).signature(phase)
    return Graph(
        io=io, precision=precision, color="rgb", shapes=shapes, phase=phase, signature=signature
    )


def exported(name: str, graph: Graph, path: Path) -> dict[str, float]:
    """Write the graph of a model with random weights; its parity."""
    net, spec = checkpoint.random(name, 0)
    net.eval()
    spec = to_onnx.of_graph(spec, net, graph)
    to_onnx.write(to_onnx.export(net, spec, graph), path)
    return verify(path, net, graph, fp16_db=entry(name).fp16_db)


def halves_of(name: str, phase: Phase) -> Graph:
    """Frames of one size in half precision, as engines take them."""
    size = Size(96, 64).padded(entry(name).multiple)
    return graph_of(name, phase, "frame", "fp16", Shapes.static(size))


class Floats:
    """Graphs of any size in float32, float face: each is exported once, and compared then.

    The processes of one run share `folder`: exporting is what most of their time would go into.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str, phase: Phase) -> Path:
        graph = graph_of(name, phase, "float", "fp32", None)
        return self._once(name, graph, self.folder / f"{name}-{phase}.onnx")

    def half(self, name: str, phase: Phase) -> Path:
        """That of `halves_of` instead."""
        return self._once(name, halves_of(name, phase), self.folder / f"{name}-{phase}-half.onnx")

    def figures(self, path: Path) -> dict[str, float]:
        """How far such a graph is from the net."""
        found: dict[str, float] = json.loads(path.with_suffix(".json").read_text())
        return found

    def _once(self, name: str, graph: Graph, path: Path) -> Path:
        with locked(path.with_suffix(".lock"), lambda: None):
            if not path.with_suffix(".json").exists():
                figures = exported(name, graph, path)
                path.with_suffix(".json").write_text(json.dumps(figures))
        return path
