"""An ONNX graph that is being rewritten: who makes a tensor, who reads it, what it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from allfocus.export.nodes import all_nodes

if TYPE_CHECKING:
    import onnx


class Editor:
    """The main graph of `model`, which is changed in place."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self._channels = _channels(model)

    def makers(self) -> dict[str, NodeProto]:
        """The node that makes each tensor."""
        return {output: node for node in self.graph.node for output in node.output}

    def readers(self) -> Mapping[str, list[NodeProto]]:
        """The nodes that read each tensor."""
        found = defaultdict(list)
        for node in all_nodes(self.graph.node):
            for name in filter(None, node.input):
                found[name].append(node)
        return found

    def channels(self, name: str) -> int | None:
        """C of the tensor [N, C, H, W] `name` as the graph came; None where that is not known."""
        return self._channels.get(name)

    def is_output(self, name: str) -> bool:
        """Whether the graph gives `name`."""
        return any(output.name == name for output in self.graph.output)

    def weight(self, name: str) -> TensorProto | None:
        """The initializer `name`; None where there is none, or its values lie in a file."""
        found = next((each for each in self.graph.initializer if each.name == name), None)
        outside = found is not None and found.data_location == TensorProto.EXTERNAL
        return None if outside else found

    def numbers(self, name: str) -> NDArray[Any] | None:
        """What the initializer `name` holds, flat; None as for `weight`."""
        found = self.weight(name)
        return None if found is None else numpy_helper.to_array(found).reshape(-1)

    def remove_unused(self) -> None:
        """Remove the nodes and the initializers that nothing needs any more."""
        needed = {output.name for output in self.graph.output}
        kept = []
        for node in reversed(self.graph.node):  # a node stands before those that read it
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(name for each in all_nodes([node]) for name in each.input)
        _set(self.graph.node, kept[::-1])
        _set(self.graph.initializer, [t for t in self.graph.initializer if t.name in needed])


def attributes(node: NodeProto) -> dict[str, Any]:
    """The attributes of `node` by name; those that it leaves out have their default."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _channels(model: onnx.ModelProto) -> dict[str, int]:
    """Axis 1 of every tensor with four axes, where it is known."""
    graph = shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    found = {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) == 4}
    return {name: channels for name, channels in found.items() if channels}


def _set(field: Any, values: list[Any]) -> None:
    del field[:]
    field.extend(values)
