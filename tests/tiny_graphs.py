"""Models with random weights as ONNX files, each exported once a session."""

from __future__ import annotations

from pathlib import Path

from allfocus.export import to_onnx
from allfocus.export.verify import verify
from allfocus.runtime.catalogue import entry
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import Graph, Io, Precision, Shapes
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


class Floats:
    """Graphs of any size in float32, float face: each is exported once, and compared then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.figures: dict[tuple[str, Phase], dict[str, float]] = {}

    def file(self, name: str, phase: Phase) -> Path:
        path = self.folder / f"{name}-{phase}.onnx"
        if (name, phase) not in self.figures:
            graph = graph_of(name, phase, "float", "fp32", None)
            self.figures[name, phase] = exported(name, graph, path)
        return path
