"""A net's copy in a lower precision, some of its layers kept in float32."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from allfocus.runtime.errors import UsageError, nearest
from allfocus.runtime.spec import Precision
from allfocus.train.models.base import Net


def lowered(net: Net, precision: Precision, kept: Sequence[str] = ()) -> Net:
    """A copy of `net` in `precision`, in which the layers `kept` compute in float32.

    What comes out of such a layer stays float32 until another layer takes it, so that sums of its
    results are float32 too.
    """
    lower = copy.deepcopy(net)
    if precision == "fp32":
        return lower
    lower.to(torch.bfloat16 if precision == "bf16" else torch.float16)
    for name in kept:  # copied anew: rounded weights do not come back
        lower.set_submodule(name, copy.deepcopy(net.get_submodule(name)))
    if kept:
        for layer in layers(lower).values():
            layer.register_forward_pre_hook(_cast_inputs)
    return lower


def layers(net: nn.Module) -> dict[str, nn.Module]:
    """The modules of `net` that hold parameters of their own, by name, in the order they stand."""
    return {
        name: module
        for name, module in net.named_modules()
        if name and next(module.parameters(recurse=False), None) is not None
    }


def matching(net: nn.Module, patterns: Sequence[str]) -> tuple[str, ...]:
    """The layers whose names fit `patterns`, such as `tail` or `blocks.0.*`.

    Raises UsageError for a pattern that fits none.
    """
    names = list(layers(net))
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UsageError(f"--fp32-layers: no layer {pattern!r}: {nearest(pattern, names)}")
    return tuple(n for n in names if any(fnmatchcase(n, pattern) for pattern in patterns))


def _cast_inputs(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    dtype = next(layer.parameters(recurse=False)).dtype
    return tuple(
        each.to(dtype) if isinstance(each, Tensor) and torch.is_floating_point(each) else each
        for each in inputs
    )
