"""The CUDA kernels of isotropic convolution: on the CPU always, on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch
from emulated import DEVICES, kernels_on
from isotropic_cases import Case
from torch import Tensor

from allfocus.kernels import reference

CASES = [
    Case(),
    Case(height=1, width=1),
    Case(height=1, width=70),
    Case(height=40, width=1, channels=1),
    Case(n=2, channels=5, height=33, width=35),  # past a tile, two channel groups
    Case(channels=4, height=17, width=66, scale=10),
    Case(levels=2, n=2),
    Case(levels=3, channels=2, height=5, width=40),
    Case(levels=9, height=12, width=13, channels=2),
]
ROUNDING = {torch.float32: 1e-5, torch.float16: 2**-10, torch.bfloat16: 2**-7}


def error(got: Tensor, wanted: Tensor) -> float:
    """Largest difference, relative to the largest value wanted."""
    return float((got.cpu().double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def gradients(inputs: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.double().requires_grad_() for t in inputs]
    return torch.autograd.grad(reference.isotropic_conv(*leaves), leaves, grad.double())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_equals_the_reference(case: Case, dtype: torch.dtype, device: str) -> None:
    inputs = case.tensors(dtype)
    wanted = reference.isotropic_conv(*(t.double() for t in inputs))
    got = kernels_on(device).isotropic_conv(*(t.to(device) for t in inputs))
    assert got.dtype == dtype
    assert error(got, wanted) < ROUNDING[dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_backward_equals_the_references(case: Case, dtype: torch.dtype, device: str) -> None:
    kernels, inputs = kernels_on(device), case.tensors(dtype)
    grad = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    given = [t.to(device) for t in (grad, *inputs)]
    got = kernels.isotropic_conv_backward(*given, (True, True, True))
    for one, wanted in zip(got, gradients(inputs, grad), strict=True):
        assert one is not None
        if wanted.abs().max() > 0:
            assert error(one, wanted) < 2 * ROUNDING[dtype]
        else:
            assert not one.any()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, True), (False, False, True)]
)
@pytest.mark.parametrize("levels", [3, 8])
def test_only_wanted_gradients_are_made(
    wanted: tuple[bool, bool, bool], levels: int, device: str
) -> None:
    kernels = kernels_on(device)
    inputs = [t.to(device) for t in Case(levels=levels).tensors()]
    everything = kernels.isotropic_conv_backward(inputs[0], *inputs, (True, True, True))
    some = kernels.isotropic_conv_backward(inputs[0], *inputs, wanted)
    for whole, part, asked in zip(everything, some, wanted, strict=True):
        assert (part is not None) == asked
        assert part is None or torch.equal(part, whole)  # a fixed order of sums: equal bits


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("levels", [3, 8])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_spreads_as_in_the_reference(
    value: float, levels: int, device: str
) -> None:
    for place in range(3):
        inputs = Case(levels=levels, height=20, width=20).tensors()
        inputs[place][0, 0, 10, 10] = value
        wanted = reference.isotropic_conv(*inputs)
        got = kernels_on(device).isotropic_conv(*(t.to(device) for t in inputs)).cpu()
        assert torch.equal(got.isnan(), wanted.isnan())
        assert torch.equal(got.isinf(), wanted.isinf())
        assert torch.equal(got.isfinite(), wanted.isfinite())
        assert not got.isfinite().all()
