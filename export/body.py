"""Writing a model-local ONNX function as if its operators were called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto, helper, numpy_helper

DOMAIN = "allfocus"
OPSET = 18  # the oldest with all operators of the bodies; later ones only add types to them


class Body:
    """The body of the function `name`, written node by node. Values are the names of tensors.

    All names begin with the function's own: where the model has a tensor of the same name as a
    function's input, TensorRT 10.1's parser computes with that tensor, and only warns.
    """

    def __init__(self, name: str, *inputs: str) -> None:
        self._name = name
        self._inputs = [f"{name}.{i}" for i in inputs]
        self._nodes: list[NodeProto] = []

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of a standard operator; its output."""
        return self._add(operator, inputs, 1, attributes)[0]

    def refer(self, attribute: str, own: str) -> None:
        """Give the last node's `attribute` the value of the function's own attribute, a float."""
        self._nodes[-1].attribute.add(name=attribute, ref_attr_name=own, type=AttributeProto.FLOAT)

    def inputs(self) -> list[str]:
        """The function's inputs in float32, in which everything is computed."""
        return [self("Cast", name, to=TensorProto.FLOAT) for name in self._inputs]

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """`value` cut into so many channels each."""
        lengths = self.integers(*sizes)
        return self._add("Split", (value, lengths), len(sizes), {"axis": 1})

    def integers(self, *values: int) -> str:
        """A constant vector, for axes and shapes."""
        return self._constant(np.array(values, np.int64))

    def weights(self, values: NDArray[np.float64]) -> str:
        """A constant tensor in float32."""
        return self._constant(values.astype(np.float32))

    def finish(self, result: str, attributes: Sequence[str] = ()) -> FunctionProto:
        """The function that returns `result` in the type of its first input."""
        output = self("CastLike", result, self._inputs[0])
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_function(
            DOMAIN, self._name, self._inputs, [output], self._nodes, opsets, list(attributes)
        )

    def _constant(self, values: NDArray[Any]) -> str:
        return self("Constant", value=numpy_helper.from_array(values))

    def _add(
        self, operator: str, inputs: Sequence[str], outputs: int, attributes: dict[str, Any]
    ) -> list[str]:
        names = [f"{self._name}.{operator}_{len(self._nodes)}_{i}" for i in range(outputs)]
        node = helper.make_node(operator, inputs, names, name=names[0], **attributes)
        self._nodes.append(node)
        return names
