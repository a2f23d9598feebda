"""A float32 (or float16) graph with Q/DQ nodes, from which engines compute its convolutions in 8
bits: one set of ranges, three dialects.

`ort` (ONNX Runtime's CPU): uint8 tensors with a zero point around every convolution, before and
behind it, and its bias in int32; without the nodes behind it a convolution would run in float32.
`openvino`: uint8 tensors before every convolution only; behind one OpenVINO goes on in float, and
sums lose nothing.
`trt` (TensorRT 10, 11 and for RTX): symmetric int8 before every convolution, no quantised bias.
`fp8` (the same engines, from Ada on): E4M3 in place of int8.

Weights are symmetric in all, with a scale for each output channel. Sums of residual blocks, and
what is added to the picture in the end, are never rounded to 8 bits. Pictures go from 0 to 1, so
that uint8 holds the frame exactly; symmetric codes would not, and for `trt` and `fp8` convolutions
that read the picture itself stay in half precision.

Nagel et al., "A White Paper on Neural Network Quantization", 2021.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from allfocus.export.histogram import LEVELS, channel_scales
from allfocus.export.quant_layers import QuantLayer, constants_of, find_layers, readers_of
from allfocus.export.ranges import Ends, Ranges
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Spec

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Dialect = Literal["ort", "openvino", "trt", "fp8"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
_LARGEST_FP8 = 448.0  # of E4M3
# What makes the picture or the map of a layer: in the net, and in the faces of frames.
_LAST = {
    *("Add", "Mul", "Sub", "Div", "Clip", "Relu", "Round", "Floor", "Cast", "Identity"),
    *("Resize", "DepthToSpace", "AveragePool", "ReduceMean", "Transpose", "Reshape"),
    *("Squeeze", "Unsqueeze", "Gather", "Slice", "Split", "Concat"),
}


def quantize(
    model: ModelProto,
    spec: Spec,
    ranges: Ranges,
    dialect: Dialect,
    kept: Collection[str] = (),
    *,
    inline: bool = True,
) -> ModelProto:
    """A copy of `model` whose convolutions but `kept` have Q/DQ nodes around them.

    `inline` False leaves the float weights where they are and rounds them in the graph, which an
    engine does once, when it loads: for weights that lie in another file. Raises ArtefactError
    where the ranges are another graph's.
    """
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    layers = {layer.name: layer for layer in find_layers(copy)}
    ranges.check(spec, layers)
    work = _Work(copy, dialect, inline)
    chosen = [each for each in layers.values() if work.in_eight_bits(each, kept)]
    for layer in chosen:
        work.quantize(layer, ranges.layers[layer.name].input)
    if dialect == "ort":
        for layer in chosen:
            if not work.adds_up(layer):
                work.round_output(layer, ranges.layers[layer.name].output)
    work.finish()
    return copy


def never_in_8_bits(model: ModelProto, dialect: Dialect) -> tuple[str, ...]:
    """The layers that a dialect leaves in floats whatever is asked for: those that read the picture
    where symmetric codes would halve its levels."""
    work = _Work(model, dialect, True)
    layers = (each for each in find_layers(model) if not work.in_eight_bits(each, ()))
    return tuple(dict.fromkeys(each.name.partition("#")[0] for each in layers))


def added(name: str) -> bool:
    """Whether a constant of this name is one that `quantize` put into a graph."""
    return name.endswith((".scale", ".zero", ".codes"))


@dataclass
class _Point:
    """A tensor that is rounded to 8 bits: what reads it instead, and the nodes that do it."""

    rounded: str
    scale: float
    nodes: list[NodeProto]


_LARGEST_BIAS = 2.0**30  # half of int32: the products are added to it


@dataclass
class _Work:
    """One graph while nodes are put into it."""

    model: ModelProto
    dialect: Dialect
    inline: bool
    points: dict[str, _Point] = field(default_factory=dict)
    first: list[NodeProto] = field(default_factory=list)  # of weights: before all others
    scales: dict[str, Any] = field(default_factory=dict)  # of weights, also of those in two layers
    weights: dict[str, list[NodeProto]] = field(default_factory=dict)  # behind a tensor of theirs

    def __post_init__(self) -> None:
        from onnx import TensorProto

        constants = constants_of(self.model)
        kinds = {each.name: each.data_type for each in self.model.graph.initializer}
        halves = any(kinds.get(n) == TensorProto.FLOAT16 for n in kinds if n.endswith(".weight"))
        self.float = np.dtype(np.float16 if halves else np.float32)
        self.tiny = float(np.finfo(np.float16 if halves else np.float32).tiny)  # no scale is 0
        self.constants = constants
        self.readers = readers_of(self.model)
        self.makers = {name: node for node in self.model.graph.node for name in node.output}
        inputs = (each.name for each in self.model.graph.input)
        self.given = {name for name in inputs if KINDS[name] == "picture"}
        self.answers = {each.name for each in self.model.graph.output}

    def in_eight_bits(self, layer: QuantLayer, kept: Collection[str]) -> bool:
        """Whether a layer shall be; see `never_in_8_bits`."""
        reads = self.dialect in ("trt", "fp8") and self._reads_picture(layer.input)
        return not reads and layer.name.partition("#")[0] not in kept

    def _reads_picture(self, name: str) -> bool:
        """Whether a tensor is the picture, or made of it without a convolution."""
        if name in self.given:
            return True
        node = self.makers.get(name)
        return (
            node is not None
            and node.op_type != "Conv"
            and any(self._reads_picture(each) for each in node.input)
        )

    def quantize(self, layer: QuantLayer, ends: Ends) -> None:
        """Round what goes into a layer, its weights and, where the dialect wants it, its bias."""
        node = layer.node
        point = self._point(layer.input, ends)
        node.input[0] = point.rounded
        scales = channel_scales(layer.weight)
        if self.dialect == "ort" and layer.bias is not None:  # whose whole numbers have an end, too
            scales = np.maximum(scales, np.abs(layer.bias) / (point.scale * _LARGEST_BIAS))
            scales = self.scales.setdefault(node.input[1], scales.astype(np.float32))
        node.input[1] = self._weight(node.input[1], layer.weight, scales)
        if self.dialect == "ort" and layer.bias is not None:
            node.input[2] = self._bias(
                f"{layer.name}.bias", layer.bias, scales * np.float32(point.scale)
            )

    def adds_up(self, layer: QuantLayer) -> bool:
        """Whether the last layer's result goes, unrounded, into the picture that comes out.

        Residual sums are not rounded either way: only what is added to them is.
        """
        seen, names = set(), [layer.output]
        while names:
            name = names.pop()
            if name in self.answers:
                return True
            for node in self.readers.get(name, []):
                if node.op_type in _LAST and id(node) not in seen and self._nears_the_end(node):
                    seen.add(id(node))
                    names.extend(node.output)
        return False

    def _nears_the_end(self, node: NodeProto) -> bool:
        """Whether no convolution reads what comes of it directly."""
        following = [each for name in node.output for each in self.readers.get(name, [])]
        return all(each.op_type not in ("Conv", "QuantizeLinear") for each in following)

    def round_output(self, layer: QuantLayer, ends: Ends) -> None:
        """Round what a layer gives, for all that read it."""
        name = layer.output
        if name in self.answers:
            return
        point = self._point(name, ends)
        for node in self.model.graph.node:
            for index, given in enumerate(node.input):
                if given == name:
                    node.input[index] = point.rounded

    def _point(self, name: str, ends: Ends) -> _Point:
        if name not in self.points:
            nodes, scale = self._nodes(name, ends)
            self.points[name] = _Point(nodes[-1].output[0], scale, nodes)
        return self.points[name]

    def _nodes(self, name: str, ends: Ends) -> tuple[list[NodeProto], float]:
        from onnx import helper

        scale, zero = _scale_and_zero(ends, self.dialect)
        scale = max(float(np.asarray(scale, self.float)), self.tiny)
        names = [name, self._constant(f"{name}.scale", np.asarray(scale, self.float))]
        names.append(self._zero(f"{name}.zero", zero))
        codes, rounded = f"{name}.codes", f"{name}.rounded"
        return [
            helper.make_node("QuantizeLinear", names, [codes], name=f"{name}.q"),
            helper.make_node("DequantizeLinear", [codes, *names[1:]], [rounded], name=f"{name}.dq"),
        ], scale

    def _weight(self, name: str, weight: Any, scales: Any) -> str:
        from onnx import helper

        if self.dialect == "fp8":
            scales = np.abs(weight).reshape(len(weight), -1).max(axis=1) / _LARGEST_FP8
            scales = np.maximum(scales, 1e-8)
        codes, rounded = f"{name}.codes", f"{name}.rounded"
        if any(rounded in node.output for node in (*self.first, *chain(*self.weights.values()))):
            return rounded  # weights that serve twice
        scales = np.maximum(scales.astype(self.float), self.float.type(self.tiny))
        rest = [self._constant(f"{name}.scale", scales), self._zeros(f"{name}.zero", len(scales))]
        nodes = []
        if self.inline and self.dialect != "fp8":
            whole = np.rint(weight / scales.astype(np.float32).reshape(-1, 1, 1, 1))
            self._constant(codes, np.clip(whole, -127, 127).astype(np.int8))
        else:
            nodes.append(helper.make_node("QuantizeLinear", [name, *rest], [codes], axis=0))
        nodes.append(helper.make_node("DequantizeLinear", [codes, *rest], [rounded], axis=0))
        for node in nodes:
            node.name = node.output[0]
        self._behind(name, nodes)
        return rounded

    def _bias(self, name: str, bias: Any, scales: Any) -> str:
        """Whole numbers in steps of (scale of the input) x (scale of the weights), in int32."""
        from onnx import helper

        whole = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
        limit = np.iinfo(np.int32)
        codes = self._constant(f"{name}.codes", whole.clip(limit.min, limit.max).astype(np.int32))
        scale = self._constant(f"{name}.scale", scales.astype(np.float32))
        zero = self._constant(f"{name}.zero", np.zeros(len(scales), np.int32))
        rounded = f"{name}.rounded"
        self.first.append(
            helper.make_node(
                "DequantizeLinear", [codes, scale, zero], [rounded], name=rounded, axis=0
            )
        )
        return rounded

    def _zero(self, name: str, zero: int) -> str:
        if self.dialect == "fp8":
            return self._eight_bits(name, [])
        kind = np.int8 if self.dialect == "trt" else np.uint8
        return self._constant(name, np.asarray(zero, kind))

    def _zeros(self, name: str, count: int) -> str:
        if self.dialect == "fp8":
            return self._eight_bits(name, [count])
        return self._constant(name, np.zeros(count, np.int8))

    def _eight_bits(self, name: str, shape: list[int]) -> str:
        """Zeros in E4M3, which NumPy does not have."""
        from onnx import TensorProto, helper

        size = int(np.prod(shape)) if shape else 1
        kind = TensorProto.FLOAT8E4M3FN
        self._add(helper.make_tensor(name, kind, shape, bytes(size), raw=True))
        return name

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self._add(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name

    def _add(self, tensor: TensorProto) -> None:
        self.model.graph.initializer.append(tensor)

    def _behind(self, name: str, nodes: list[NodeProto]) -> None:
        """Put nodes that read the weight `name` where it is there."""
        if any(name in each.output for each in self.model.graph.node):  # a cast of a stored half
            self.weights[name] = nodes
        else:
            self.first.extend(nodes)

    def finish(self) -> None:
        """Put the nodes in an order in which each follows what it reads; drop what none reads."""
        graph = self.model.graph
        nodes = [*self.first]
        for given in graph.input:
            nodes.extend(self._following(given.name))
        for node in graph.node:
            nodes.append(node)
            for name in node.output:
                nodes.extend(self._following(name))
        nodes = list(nodes)  # the graph's own are about to go
        copies = [_copied(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
        read = {name for node in graph.node for name in node.input} | self.answers
        left = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(left)

    def _following(self, name: str) -> Iterator[NodeProto]:
        yield from self.weights.get(name, ())
        if name in self.points:
            yield from self.points[name].nodes


def _copied(node: NodeProto) -> NodeProto:
    import onnx

    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _scale_and_zero(ends: Ends, dialect: Dialect) -> tuple[float, int]:
    low, high = min(0.0, ends[0]), max(0.0, ends[1])
    largest = max(-low, high, 1e-8)
    if dialect == "fp8":
        return largest / _LARGEST_FP8, 0
    if dialect == "trt":
        return largest / 127, 0
    scale = max(high - low, 1e-8) / LEVELS
    return scale, int(np.clip(np.rint(-low / scale), 0, LEVELS))
