"""A constant that multiplies a convolution's result, such as a residual scale, in its weights.

`c * (w x + b)` is `(c w) x + c b`. Runtimes do this themselves where all is float32; in 8 bits the
product stands between the convolution and the sum of a residual block, which then are both computed
in float32: without it the whole block is one in 8 bits.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto, numpy_helper

from allfocus.export.surgery_graph import Editor


def fold_scales(editor: Editor) -> list[str]:
    """Multiply weights and biases instead of results, in float32.

    In a half, weights would be rounded once more: there, and where anything else reads the weights
    or the result before it is scaled, the product stays.
    """
    done = []
    for node in list(editor.graph.node):
        if node.op_type != "Mul" or len(node.input) != 2:
            continue
        for result, factor in (tuple(node.input), tuple(node.input)[::-1]):
            conv, scale = editor.makers().get(result), _scale(editor, factor)
            if conv is not None and scale is not None and _fits(editor, conv):
                _fold(editor, conv, node, scale)
                done.append(f"{conv.input[1]}: multiplied by {scale:g}, no product after it")
                break
    return done


def _scale(editor: Editor, name: str) -> float | None:
    """The one finite float32 that `name` is."""
    found = editor.weight(name)
    if found is None or found.data_type != TensorProto.FLOAT or len(found.dims) > 4:
        return None
    values = numpy_helper.to_array(found).reshape(-1)
    return float(values[0]) if len(values) == 1 and np.isfinite(values[0]) else None


def _fits(editor: Editor, conv: NodeProto) -> bool:
    if conv.op_type != "Conv" or conv.domain or editor.is_output(conv.output[0]):
        return False
    readers = editor.readers()
    tensors = [editor.weight(name) for name in conv.input[1:] if name]
    own = [name for name in (*conv.input[1:], conv.output[0]) if name]
    return all(t is not None and t.data_type == TensorProto.FLOAT for t in tensors) and all(
        len(readers[name]) == 1 for name in own
    )


def _fold(editor: Editor, conv: NodeProto, product: NodeProto, scale: float) -> None:
    for name in filter(None, conv.input[1:]):
        tensor = editor.weight(name)
        assert tensor is not None, "_fits has seen it"
        values = numpy_helper.to_array(tensor).astype(np.float64) * scale
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), name))
    # They change names: the product comes to stand aside, where nothing reads it.
    result = conv.output[0]
    conv.output[0] = product.output[0]
    product.output[0] = result
    for place, name in enumerate(product.input):
        if name == result:
            product.input[place] = conv.output[0]
