"""Counting parameters and multiply-accumulates, layer by layer, without running the net."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

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


@runtime_checkable
class Counted(Protocol):
    """A module that multiplies and accumulates by other means than torch's layers."""

    def macs(self, *inputs: Tensor) -> int:
        """Multiply-accumulates of a call with such tensors, those of its submodules left out."""
        ...


def count_parameters(net: nn.Module) -> int:
    """Number of trainable and fixed parameters."""
    return sum(p.numel() for p in net.parameters())


def count_layers(net: nn.Module, *inputs: Tensor, phase: Phase | None = None) -> list[LayerCount]:
    """One row a layer, in execution order, for tensors like `inputs`: convolutions, linear layers,
    and what counts itself. `phase`: of a `Net`; None: its `forward`.

    A convolution costs one multiply-accumulate for each weight of a filter and output sample; its
    bias is not counted. Runs on the meta device, so the size of a picture costs nothing.
    """
    rows: list[LayerCount] = []
    meta = copy.deepcopy(net).to("meta").eval()
    handles = [
        module.register_forward_hook(_recorder(name, rows))
        for name, module in meta.named_modules()
        if _is_counted(module)
    ]
    with torch.no_grad():
        given = [tensor.to("meta") for tensor in inputs]
        meta(*given) if phase is None else cast("Net", meta).run(phase, *given)
    for handle in handles:
        handle.remove()
    return rows


def count_macs(net: nn.Module, *inputs: Tensor, phase: Phase | None = None) -> int:
    """Multiply-accumulates of one run on tensors like `inputs`; see `count_layers`."""
    return sum(row.macs for row in count_layers(net, *inputs, phase=phase))


def _is_counted(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv2d, nn.Linear, Counted))


def _recorder(name: str, rows: list[LayerCount]):  # type: ignore[no-untyped-def]
    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows.append(
            LayerCount(
                name=name,
                kind=type(module).__name__,
                output=tuple(output.shape),
                parameters=sum(p.numel() for p in module.parameters()),
                macs=_macs(module, inputs, output),
                activation_bytes=4 * sum(tensor.numel() for tensor in (*inputs, output)),
            )
        )

    return record


def _macs(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> int:
    if isinstance(module, Counted):
        return module.macs(*inputs)
    weight = module.weight
    assert isinstance(weight, Tensor)
    return output.numel() // weight.shape[0] * weight.numel()  # each filter runs at each position
