"""What the engines that read ONNX files have in common: their contract with the file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np

from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.contract import Contract, check_face
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.layout import layout
from allfocus.runtime.spec import Graph, Size, Spec


class OnnxBackend(Backend):
    """An ONNX file in an engine. Subclasses name their `extra`, and what they take for a run."""

    extra: str  # of pip install "allfocus[...]"
    arena: float  # times the file's figure: what runs take at most, as seen

    @abstractmethod
    def length(self, name: str) -> int:
        """The second length of an input: that of a vector."""

    def blank(self, size: Size) -> dict[str, Array]:
        """Inputs of zeros for a picture of `size`."""
        wanted = {name: layout(name, self.graph.io) for name in self.graph.signature.inputs}
        return {
            name: np.zeros(each.shape(size, self.length(name)), each.dtype)
            for name, each in wanted.items()
        }

    def _agreed(
        self, found: Contract, inputs: Mapping[str, str], outputs: Mapping[str, str]
    ) -> tuple[Spec, Graph]:
        """Take over a contract, once the engine's tensors are seen to be as it says."""
        check_face(self.artefact, found.graph, inputs, outputs)
        self.canary, self.bits = found.canary, found.bits
        if found.memory is not None:
            self.bytes_per_pixel = self.arena * found.memory
        return found.spec, found.graph

    def _damaged(self, cause: str) -> ArtefactError:
        return ArtefactError(
            f"{self.artefact}: damaged, incomplete, or not an ONNX file ({cause}); "
            "export it again with `allfocus export --force`"
        )

    def _cannot_run(self, inputs: Mapping[str, Array], cause: str) -> BackendError:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        return BackendError(
            f"{self.artefact}: {self.name}: cannot run on {shapes} ({cause}); if memory is short, "
            "use a smaller frame"
        )
