"""Models of one call of an operation, and running them in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from torch import Tensor

from allfocus.export import ops

Array = NDArray[Any]
ISOTROPIC = ("image", "seeds", "weights")
SPATIAL = ("features", "gamma", "gamma_s", "beta")
CHANNELS = ("features", "gamma", "beta")


def calling(
    name: str,
    inputs: tuple[str, ...],
    kind: int = TensorProto.FLOAT,
    shapes: Mapping[str, Any] | None = None,
    opset: int = 20,
    **attributes: float,
) -> ModelProto:
    """A model of one call; every axis is free where `shapes` does not say otherwise."""
    free = {i: [f"{i}_{axis}" for axis in "nchw"] for i in (*inputs, "result")}
    ends = {
        i: helper.make_tensor_value_info(i, kind, shape)
        for i, shape in {**free, **(shapes or {})}.items()
    }
    node = helper.make_node(name, inputs, ["result"], domain="allfocus", **attributes)
    graph = helper.make_graph([node], "g", [ends[i] for i in inputs], [ends["result"]])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("allfocus", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    ops.attach_functions(model)
    onnx.checker.check_model(model, full_check=True)
    return model


@lru_cache(maxsize=64)
def session(name: str, inputs: tuple[str, ...], kind: int, slope: float | None = None) -> Any:
    attributes = {} if slope is None else {"slope": slope}
    return started(calling(name, inputs, kind, **attributes))


def started(model: ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(running: Any, inputs: tuple[str, ...], tensors: tuple[Tensor, ...]) -> Array:
    given = {name: t.numpy() for name, t in zip(inputs, tensors, strict=True)}
    (result,) = running.run(None, given)
    assert isinstance(result, np.ndarray)
    return result
