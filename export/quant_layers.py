"""The convolutions of a graph that can compute in 8 bits, and the tensors around them.

Weights have the names they have in the checkpoint, so that a layer is called in a graph as in the
net: `restorer.blocks.0.conv1`. What functions hold (SFT modulation) is arithmetic on single values,
which 8 bits do not speed up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Values = NDArray[Any]
_WEIGHT = ".weight"


@dataclass(frozen=True, kw_only=True)
class QuantLayer:
    """A convolution: its name in the net, and its tensors by name."""

    name: str
    node: NodeProto
    input: str
    output: str  # behind the ReLU, where that alone reads the convolution's result
    weight: Values  # float32 [O, I, H, W]
    bias: Values | None  # float32 [O]


def find_layers(model: ModelProto) -> tuple[QuantLayer, ...]:
    """The convolutions of `model`, in its order, whose weights are constants.

    Where weights serve twice, the second one's name ends in #2: other tensors are around it.
    """
    constants = constants_of(model)
    readers = readers_of(model)
    found, uses = [], Counter[str]()
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in constants:
            continue
        bias = node.input[2] if len(node.input) > 2 else ""
        name = node.input[1].removesuffix(_WEIGHT)
        uses[name] += 1
        found.append(
            QuantLayer(
                name=name if uses[name] == 1 else f"{name}#{uses[name]}",
                node=node,
                input=node.input[0],
                output=_behind(node, readers),
                weight=constants[node.input[1]],
                bias=constants.get(bias),
            )
        )
    return tuple(found)


def constants_of(model: ModelProto) -> dict[str, Values]:
    """Float32 values of the initializers, and of those that are stored in a half and cast."""
    from onnx import numpy_helper

    stored = {each.name: each for each in model.graph.initializer if not each.external_data}
    plain = {name: numpy_helper.to_array(each) for name, each in stored.items()}
    floats = {n: v.astype(np.float32) for n, v in plain.items() if v.dtype.kind == "f"}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in floats:
            floats[node.output[0]] = floats[node.input[0]]
    return floats


def readers_of(model: ModelProto) -> Mapping[str, list[NodeProto]]:
    """The nodes that read each tensor, once for each time that they name it."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _behind(node: NodeProto, readers: Mapping[str, list[NodeProto]]) -> str:
    """The tensor that a quantised result is: ONNX Runtime computes a ReLU by the range's end."""
    name: str = node.output[0]
    following = readers.get(name, [])
    if len(following) == 1 and following[0].op_type == "Relu":
        name = following[0].output[0]
    return name
