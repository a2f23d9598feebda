"""A pixel-unshuffle and the convolution after it, as one convolution that strides.

Unshuffling by f puts the f x f pixels of a square into channels. A convolution of k x k over those
reads the same numbers as one of fk x fk over the picture whose stride is f: its weights are the
same ones, laid out as the pixels lie, and its borders of zeros are f times as wide. So no work is
added, and what PyTorch's exporter makes of an unshuffle goes away: a copy of the picture in an
order that no runtime has a fast loop for, and in graphs of free size a dozen nodes of arithmetic
on shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from allfocus.export.surgery_graph import Editor, attributes

_ORDER = [0, 1, 3, 5, 2, 4]  # [N, C, H, f, W, f] -> [N, C, f, f, H, W]
_WEIGHTS = [0, 1, 4, 2, 5, 3]  # [O, C, f, f, kh, kw] -> [O, C, kh, f, kw, f]


@dataclass(frozen=True)
class _Unshuffle:
    """[N, C, H, W] `source` -> [N, C * fold**2, H / fold, W / fold] `result`."""

    source: str
    result: str
    channels: int  # of the source
    fold: int


def laid_out(weight: NDArray[Any], fold: int) -> NDArray[Any]:
    """Weights [O, C * fold**2, kh, kw] of an unshuffled picture as those of the picture itself,
    [O, C, fold * kh, fold * kw]."""
    apart, to = _shapes(weight.shape, fold)
    return np.ascontiguousarray(weight.reshape(apart).transpose(_WEIGHTS).reshape(to))


def _shapes(dims: Sequence[int], fold: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of weights between the layouts, and after."""
    outputs, inputs, height, width = dims
    channels = inputs // fold**2
    apart = (outputs, channels, fold, fold, height, width)
    return apart, (outputs, channels, fold * height, fold * width)


def fold_unshuffles(editor: Editor) -> list[str]:
    """Let the convolutions after each unshuffle stride over the picture itself.

    One is left as it is where anything else reads it, as it would have to be made all the same.
    """
    done = []
    for unshuffle in list(_unshuffles(editor)):
        convs = _only_convs(editor, unshuffle)
        for conv in convs:
            _stride(editor, conv, unshuffle)
            done.append(f"{conv.input[1]}: strides by {unshuffle.fold}, no unshuffle before it")
    return done


def _unshuffles(editor: Editor) -> Iterator[_Unshuffle]:
    makers, readers = editor.makers(), editor.readers()
    for node in editor.graph.node:
        if node.op_type != "Transpose" or attributes(node).get("perm") != _ORDER:
            continue
        split = makers.get(node.input[0])
        if split is None or split.op_type != "Reshape":
            continue
        source = split.input[0]
        while _is_reshape(makers.get(source)):  # to the four axes that it has
            source = makers[source].input[0]
        result = node.output[0]
        while merged := [r for r in readers[result] if _is_reshape(r)]:
            result = merged[0].output[0]
        fold, channels = _fold(editor, split.input[1]), editor.channels(source)
        if fold and channels:
            yield _Unshuffle(source, result, channels, fold)


def _is_reshape(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "Reshape"


def _fold(editor: Editor, shape: str) -> int | None:
    """f of the shape [N, C, H, f, W, f], which is constant or joined of its six numbers."""
    maker = editor.makers().get(shape)
    if maker is None:
        numbers = editor.numbers(shape)
        sides = [] if numbers is None or len(numbers) != 6 else [int(numbers[3]), int(numbers[5])]
    elif maker.op_type == "Concat" and len(maker.input) == 6:
        parts = [editor.numbers(maker.input[i]) for i in (3, 5)]
        sides = [int(p[0]) for p in parts if p is not None and len(p) == 1]
    else:
        return None
    return sides[0] if len(sides) == 2 and sides[0] == sides[1] else None


def _only_convs(editor: Editor, unshuffle: _Unshuffle) -> list[NodeProto]:
    """The convolutions that read it; none where something else does, or one cannot stride."""
    readers = editor.readers()
    found = readers[unshuffle.result]
    if editor.is_output(unshuffle.result) or not all(_fits(editor, n, unshuffle) for n in found):
        return []
    names = [node.input[1] for node in found]
    alone = all(len(readers[name]) == 1 for name in names)
    return list(found) if alone else []


def _fits(editor: Editor, node: NodeProto, unshuffle: _Unshuffle) -> bool:
    if node.op_type != "Conv" or node.domain or node.input[0] != unshuffle.result:
        return False
    given, weight = attributes(node), editor.weight(node.input[1])
    plain = given.get("auto_pad", b"NOTSET") == b"NOTSET" and given.get("group", 1) == 1
    dense = set(given.get("dilations", [1])) == {1}
    return (
        plain
        and dense
        and weight is not None
        and len(weight.dims) == 4
        and weight.dims[1] == unshuffle.channels * unshuffle.fold**2
    )


def _stride(editor: Editor, conv: NodeProto, unshuffle: _Unshuffle) -> None:
    """Let `conv` read the source: everything that counts places, times the fold."""
    name, fold = conv.input[1], unshuffle.fold
    weight = editor.weight(name)
    assert weight is not None, "_fits has seen it"
    height, width = weight.dims[2:]
    given = attributes(conv)
    wider = {
        "strides": [fold * step for step in given.get("strides", [1, 1])],
        "pads": [fold * pad for pad in given.get("pads", [0] * 4)],
        "kernel_shape": [fold * height, fold * width],
    }
    del conv.attribute[:]
    conv.attribute.extend(helper.make_attribute(k, v) for k, v in {**given, **wider}.items())
    conv.input[0] = unshuffle.source
    values = laid_out(numpy_helper.to_array(weight), fold)
    weight.CopyFrom(numpy_helper.from_array(values, name))
