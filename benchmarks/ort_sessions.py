"""ONNX Runtime without this project around it: what its calls and graphs are held against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allfocus.runtime.layout import layout
from allfocus.runtime.spec import Graph, Size

_CHANNELS, _PLANE = 64, Size(80, 56)  # of the plain convolutions: those of a lite net


@dataclass(frozen=True)
class Convolutions:
    """A stack of 3x3 convolutions; `macs` is what `run` computes."""

    macs: float
    run: Callable[[], object]


def bare(path: Path, graph: Graph, size: Size, threads: int) -> Callable[[], object]:
    """A run of a packaged graph on a picture that is ready, and nothing else."""
    wanted = layout("image", graph.io)
    session = _session(str(path), threads)
    random = np.random.default_rng(0)
    values = random.random(wanted.shape(size, 3))
    image = values.astype(np.float32) if graph.io == "float" else (255 * values).astype(np.uint8)
    return lambda: session.run(None, {"image": image})


def convolutions(macs: float, threads: int) -> Convolutions:
    """About as many multiply-adds as a net has, in convolutions alone."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    each = 9 * _CHANNELS**2 * _PLANE.width * _PLANE.height
    count = max(1, round(macs / each))
    shape = [1, _CHANNELS, _PLANE.height, _PLANE.width]
    kernels = [
        random.normal(0, 1 / 24, (_CHANNELS, _CHANNELS, 3, 3)).astype(np.float32)
        for _ in range(count)
    ]
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1])
        for i in range(count)
    ]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{count}", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(kernel, f"w{i}") for i, kernel in enumerate(kernels)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = _session(model.SerializeToString(), threads)
    picture = random.normal(size=shape).astype(np.float32)
    return Convolutions(float(count * each), lambda: session.run(None, {"x0": picture}))


def _session(model: str | bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
