"""What a net computes in float16 or bfloat16, found without a GPU.

ONNX Runtime's CPU computes a float16 graph in float32 and drops the casts between its layers, so
that it shows neither an overflow nor a loss of precision; a bfloat16 graph it does not compute at
all. Here every operator's result is rounded to half precision, as a GPU stores it, while sums
inside an operator stay float32, as tensor cores keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from allfocus.export.lower import lowered
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import Precision
from allfocus.train.models.base import Net

_CASTS = ("aten::_to_copy", "aten::to")


class Float32Sums(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's hook
    """Within it, operators on the type `half` compute in float32, and their results are rounded.

    As ever, where a float32 tensor goes in beside such ones the result is float32.
    """

    def __init__(self, half: torch.dtype = torch.float16) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._half = half

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run `func` on float32 copies and round what it returns."""
        given = kwargs or {}
        kinds = {t.dtype for t in tree_leaves((args, given)) if isinstance(t, Tensor) and t.dim()}
        if self._half not in kinds or _is_cast(func):
            return func(*args, **given)
        results = func(*tree_map(self._widened, args), **tree_map(self._widened, given))
        return results if torch.float32 in kinds else tree_map(self._rounded, results)

    def _widened(self, value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype == self._half else value

    def _rounded(self, value: Any) -> Any:
        rounds = isinstance(value, Tensor) and value.dtype == torch.float32
        return value.to(self._half) if rounds else value


def run_in_half(
    net: Net,
    phase: Phase,
    inputs: Sequence[Tensor],
    kept: Sequence[str] = (),
    precision: Precision = "fp16",
) -> tuple[Tensor, ...]:
    """The outputs of a phase of the float32 `net`, computed as fp16 or bf16 would be; in float32.

    The layers `kept` compute in float32. `net` itself is left as it is.
    """
    half = torch.bfloat16 if precision == "bf16" else torch.float16
    lower = lowered(net, precision, kept)
    with torch.inference_mode(), Float32Sums(half):
        outputs = lower.run(phase, *(each.to(half) for each in inputs))
    return tuple(output.float() for output in outputs)


def _is_cast(func: Any) -> bool:
    return str(getattr(func, "_schema", func)).partition("(")[0].partition(".")[0] in _CASTS
