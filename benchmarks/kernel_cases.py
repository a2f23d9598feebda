"""What `bench kernels` compares: the operations' inputs, and the ways to compute them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from allfocus.benchmarks.kernel_clock import Prepare, Results
from allfocus.benchmarks.kernel_schema import Direction, Kind, Op
from allfocus.kernels import ops, reference
from allfocus.kernels.taps import LEVELS, seed_count
from allfocus.runtime.errors import ParityError
from allfocus.runtime.spec import Size

Function = Callable[..., Tensor]
CHANNELS: dict[Op, int] = {"isotropic_conv": 3, "sft_modulate": 128}  # RGB; SFTNet's features
DTYPES: dict[Kind, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
# Largest difference from float64 over the largest value; for half types twice their rounding.
TOLERANCE: dict[Kind, float] = {"fp32": 1e-5, "fp16": 2**-10, "bf16": 2**-7}
_EAGER_ROUNDINGS = 4  # eager PyTorch rounds after each pass


@dataclass(frozen=True)
class Case:
    """One operation on certain tensors, in one direction; `grad` is that of its result."""

    op: Op
    direction: Direction
    precision: Kind
    inputs: tuple[Tensor, ...]
    grad: Tensor

    def prepare(self, function: Function) -> Prepare:
        """What a clock times: the forward call, or the backward one after an untimed forward."""
        return partial(_forward if self.direction == "forward" else _backward, self, function)


def make_case(
    op: Op, direction: Direction, precision: Kind, size: Size, device: torch.device
) -> Case:
    """A Case with the same random values each time."""
    generator = torch.Generator().manual_seed(0)
    channels, dtype = CHANNELS[op], DTYPES[precision]

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    plane = (size.height, size.width)
    result = (1, channels, *plane)
    if op == "isotropic_conv":
        drawn = [
            random(*result),
            2 * random(1, seed_count(LEVELS), *plane),
            random(1, LEVELS, *plane).softmax(1),
        ]
    else:
        drawn = [random(*result), random(1, channels, 1, 1), random(1, 1, *plane), random(*result)]
    grad = random(*result)
    inputs = tuple(tensor.to(device, dtype) for tensor in drawn)
    return Case(op, direction, precision, inputs, grad.to(device, dtype))


def contenders(op: Op, *, kernel: bool, compiled: bool) -> dict[str, Function]:
    """The ways to compute `op`, by name; the reference is always among them."""
    plain: Function = getattr(reference, op)
    found: dict[str, Function] = {"reference": plain}
    if op == "sft_modulate":
        found["eager"] = _sft_by_hand
    if compiled:
        torch.compiler.reset()  # it gives up on a function after some shapes and dtypes
        found["compiled"] = torch.compile(plain, dynamic=False)
    if kernel:
        found["kernel"] = getattr(ops, op)
    return found


def check(case: Case, function: Function, truth: Results, name: str) -> float:
    """The error against `truth`, float64; raises ParityError where it is above the tolerance."""
    results = case.prepare(function)()()
    found = max(map(_error, results, truth))
    allowed = TOLERANCE[case.precision] * (_EAGER_ROUNDINGS if name == "eager" else 1)
    if not found <= allowed:
        raise ParityError(
            f"{case.op} {case.direction} {case.precision}: {name} differs from float64 by "
            f"{found:.2g} of the largest value; at most {allowed:.2g} is right. It is not timed: "
            "mend it first, see `pytest tests/test_ops.py`"
        )
    return found


def exact(case: Case) -> Results:
    """The results in float64, by the reference."""
    wide = tuple(tensor.double() for tensor in case.inputs)
    doubled = Case(case.op, case.direction, case.precision, wide, case.grad.double())
    return doubled.prepare(getattr(reference, case.op))()()


def _error(result: Tensor, truth: Tensor) -> float:
    return float((result.double() - truth).abs().max() / truth.abs().max())


def _sft_by_hand(features: Tensor, gamma: Tensor, gamma_s: Tensor, beta: Tensor) -> Tensor:
    """As one writes it: three passes over the features, each rounded to their dtype."""
    return features * gamma * gamma_s + beta


def _forward(case: Case, function: Function) -> Callable[[], Results]:
    def call() -> Results:
        with torch.no_grad():
            return (function(*case.inputs),)

    return call


def _backward(case: Case, function: Function) -> Callable[[], Results]:
    leaves: Sequence[Tensor] = [tensor.detach().requires_grad_() for tensor in case.inputs]
    out = function(*leaves)
    return lambda: torch.autograd.grad(out, leaves, case.grad)
