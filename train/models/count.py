"""Counting parameters and multiply-accumulates, layer by layer, without running the net."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from allfocus.runtime.signature import Phase

if TYPE_CHECKING:
    from allfocus.train.models.base import Net


@dataclass(frozen=True)
class LayerCount:
    """One layer's share. MACs are for one forward pass; bytes are of float32 activations."""

    name: str
    kind: str
    output: tuple[int, ...]  # shape, [N, C, H, W]
    parameters: int
    macs: int
    activation_bytes: int  # read + written once each


def count_parameters(net: nn.Module) -> int:
    """Number of trainable and fixed parameters."""
    return sum(p.numel() for p in net.parameters())


def count_layers(net: Net, *inputs: Tensor, phase: Phase = "whole") -> list[LayerCount]:
    """One row a convolution or linear layer, in execution order, for `phase` with such `inputs`.

    A convolution costs one multiply-accumulate for each weight of a filter and output sample; its
    bias is not counted. Runs on the meta device, so the size of a picture costs nothing.
    """
    rows: list[LayerCount] = []
    meta = copy.deepcopy(net).to("meta").eval()
    handles = [
        module.register_forward_hook(_recorder(name, rows))
        for name, module in meta.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        meta.run(phase, *(tensor.to("meta") for tensor in inputs))
    for handle in handles:
        handle.remove()
    return rows


def count_macs(net: Net, *inputs: Tensor, phase: Phase = "whole") -> int:
    """Multiply-accumulates of one run of `phase` on tensors like `inputs`."""
    return sum(row.macs for row in count_layers(net, *inputs, phase=phase))


def _recorder(name: str, rows: list[LayerCount]):  # type: ignore[no-untyped-def]
    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        samples = output.numel() // weight.shape[0]  # output positions: every filter runs at each
        rows.append(
            LayerCount(
                name=name,
                kind=type(module).__name__,
                output=tuple(output.shape),
                parameters=sum(p.numel() for p in module.parameters()),
                macs=samples * weight.numel(),
                activation_bytes=4 * (inputs[0].numel() + output.numel()),
            )
        )

    return record
