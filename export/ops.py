"""The two operations of `allfocus.kernels` in ONNX graphs: as functions, or as plugin nodes.

As exported, a model brings for each of them a function of standard operators (see `functions.py`):
ONNX Runtime and TensorRT for RTX run it as it is. `plugin_form` drops these functions, and TensorRT
then takes the nodes for its plugins (see kernels/trt_plugins/README.md).

A function is named by what it does, such as `IsotropicConv_8` for 8 levels, because TensorRT's
parser knows functions by their names alone, not by overload or domain. Plugins need no such names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import FunctionProto, ModelProto

from allfocus.export.body import DOMAIN, OPSET
from allfocus.export.functions import isotropic_conv, sft_modulate
from allfocus.export.nodes import all_nodes
from allfocus.runtime.errors import UsageError

VERSION = 1  # of the operators
PLUGIN_ATTRIBUTES = {"plugin_namespace": "allfocus", "plugin_version": "1"}

_ISOTROPIC, _SFT = "IsotropicConv", "SftModulate"
_FLOATS = ["tensor(float)", "tensor(float16)", "tensor(bfloat16)"]


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """What `torch.onnx.export` takes as its `custom_translation_table`."""
    import torch

    import allfocus.kernels.registered  # noqa: F401  # for what it does when imported

    registered = torch.ops.allfocus
    return {
        registered.isotropic_conv.default: _translate_isotropic,
        registered.sft_modulate.default: _translate_sft,
    }


def attach_functions(model: ModelProto) -> None:
    """Add to `model` the functions that its nodes call; nothing where it has no such nodes.

    They take on the model's own opset: only functions of the same one can be written out in place.
    """
    (opset,) = (o.version for o in model.opset_import if not o.domain)
    for name in sorted({node.op_type for node in _own_nodes(model)}):
        model.functions.append(_function(name))
        model.functions[-1].opset_import[0].version = max(opset, OPSET)


def has_operations(model: ModelProto) -> bool:
    """Whether plugins could do any of the work of `model`."""
    return bool(_own_nodes(model))


def plugin_form(model: ModelProto) -> ModelProto:
    """A copy of `model` in which nodes call TensorRT plugins instead of functions."""
    form = ModelProto()
    form.CopyFrom(model)
    del form.functions[:]
    form.functions.extend(f for f in model.functions if f.domain != DOMAIN)
    for node in _own_nodes(form):
        node.op_type = node.op_type.partition("_")[0]
        for name, value in PLUGIN_ATTRIBUTES.items():
            node.attribute.append(onnx.helper.make_attribute(name, value))
    return form


def _own_nodes(model: ModelProto) -> list[onnx.NodeProto]:
    return [node for node in all_nodes(model.graph.node) if node.domain == DOMAIN]


def _function(name: str) -> FunctionProto:
    operator, *variant = name.split("_")
    if operator == _ISOTROPIC:
        return isotropic_conv(name, int(variant[0]))
    activation = next((a for a in ("relu", "leaky") if a in variant), "none")
    return sft_modulate(name, spatial="spatial" in variant, activation=activation)


def _translate_isotropic(image: Any, seeds: Any, weights: Any) -> Any:
    levels = weights.shape[1]
    if not isinstance(levels, int):
        raise UsageError(
            f"isotropic_conv: {levels} weights a pixel; an ONNX graph has a fixed number of levels"
        )
    return _node(f"{_ISOTROPIC}_{levels}", {"image": image, "seeds": seeds, "weights": weights})


def _translate_sft(features: Any, gamma: Any, gamma_s: Any, beta: Any, slope: float) -> Any:
    inputs = {"features": features, "gamma": gamma, "gamma_s": gamma_s, "beta": beta}
    given = {name: value for name, value in inputs.items() if value is not None}
    variant = "_spatial" if "gamma_s" in given else ""
    variant += {1.0: "", 0.0: "_relu"}.get(slope, "_leaky")
    return _node(f"{_SFT}{variant}", given, slope=float(slope))


def _node(name: str, inputs: dict[str, Any], **attributes: float) -> Any:
    """Record a node, within torch's exporter; its output, of the type of its inputs."""
    from onnxscript import values

    schema = onnx.defs.OpSchema(
        name,
        DOMAIN,
        VERSION,
        inputs=[onnx.defs.OpSchema.FormalParameter(i, "T") for i in inputs],
        outputs=[onnx.defs.OpSchema.FormalParameter("result", "T")],
        type_constraints=[("T", _FLOATS, "")],
        attributes=[
            onnx.defs.OpSchema.Attribute(a, onnx.defs.OpSchema.AttrType.FLOAT) for a in attributes
        ],
    )
    operator = values.Op(values.Opset(DOMAIN, VERSION), name, schema)
    return operator(*inputs.values(), **attributes)
