"""Running on a CPU what is meant for GPUs, to see whether it computes what the net does.

A bfloat16 graph becomes a float32 one of the same weights; what that loses is found in `half`. In
fp8, and in 8 bits on a CPU without VNNI, ONNX Runtime rounds tensors as the graph says, and
convolutions compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from allfocus.export.nodes import all_nodes
from allfocus.runtime.abilities import lacks
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Graph

if TYPE_CHECKING:
    from onnx import ModelProto


# ONNX Runtime would make 8-bit convolutions of fp8, and fail; without VNNI, those overflow.
UNFUSED = ("session.disable_quant_qdq", "1")
ON_CPUS = ("fp32", "fp16", "int8")  # precisions of which ONNX Runtime's CPU runs a file as it is


@contextmanager
def opened(onnx_file: Path, graph: Graph) -> Iterator[Backend]:
    """What runs `onnx_file` on this CPU, whatever its precision."""
    precision = graph.precision
    unfused = precision == "fp8" or (precision == "int8" and lacks("int8"))
    kind = _Unfused if unfused else OrtBackend
    if graph.precision != "bf16":
        with kind(onnx_file, Options()) as backend:
            yield backend
        return
    import onnx

    with TemporaryDirectory() as folder:
        copy = Path(folder) / onnx_file.name
        onnx.save(widened(onnx.load(str(onnx_file))), str(copy))
        with kind(copy, Options()) as backend:
            yield backend


class _Unfused(OrtBackend):
    """Rounds to fp8 or 8 bits, and computes in float32."""

    def _session_options(self, ort: Any) -> Any:
        options = super()._session_options(ort)
        options.add_session_config_entry(*UNFUSED)
        return options


def widened(model: ModelProto) -> ModelProto:
    """`model` with float32 wherever it has bfloat16; changes it."""
    from onnx import TensorProto, numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            values = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for body in (model.graph.node, *(function.node for function in model.functions)):
        for node in all_nodes(body):
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.BFLOAT16:
                    attribute.i = TensorProto.FLOAT
                if attribute.t.data_type == TensorProto.BFLOAT16:
                    values = numpy_helper.to_array(attribute.t).astype("float32")
                    attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
    return model
