"""What a net computes in float16, found without a GPU.

ONNX Runtime's CPU computes a float16 graph in float32 and drops the casts between its layers, so
that it shows neither an overflow nor a loss of precision. Here every operator's result is rounded
to float16, as a GPU stores it, while sums inside an operator stay float32, as tensor cores keep
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class Float16Storage(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's hook
    """Within it, every float32 result of an operator is rounded to float16 (overflow: infinity)."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func` as it is and round what it returns."""
        return tree_map(_rounded, func(*args, **(kwargs or {})))


def run_in_half(net: nn.Module, image: Tensor) -> tuple[Tensor, Tensor | None]:
    """The outputs of the float32 `net` for `image` [N, 3, H, W], computed as float16 would be.

    The weights are rounded too; `net` itself is left as it is.
    """
    weights = {name: _rounded(value) for name, value in net.state_dict().items()}
    with torch.inference_mode(), Float16Storage():  # type: ignore[no-untyped-call]
        outputs: tuple[Tensor, Tensor | None] = torch.func.functional_call(
            net, weights, (_rounded(image),)
        )
    return outputs


def _rounded(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype == torch.float32:
        return value.half().float()
    return value
