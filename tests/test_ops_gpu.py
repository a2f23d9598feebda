"""The public operations on a GPU: gradients through autograd, streams, graphs, a second device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from emulated import kernels_on
from isotropic_cases import Case
from test_ops import OPCHECKS, SMALL, sft_tensors
from torch import Tensor

from allfocus.kernels import ops, reference, registered

pytestmark = pytest.mark.gpu

Operation = Callable[..., Tensor]
CUDA = torch.device("cuda")


def sft(*tensors: Tensor) -> Tensor:
    return ops.sft_modulate(*tensors, activation="leaky_relu")


def sft_reference(*tensors: Tensor) -> Tensor:
    return reference.sft_modulate(*tensors, slope=0.2)


def sft_inputs() -> list[Tensor]:
    return [t for t in sft_tensors().values() if t is not None]


OPERATIONS = [
    pytest.param(ops.isotropic_conv, reference.isotropic_conv, SMALL.tensors, id="isotropic_conv"),
    pytest.param(sft, sft_reference, sft_inputs, id="sft_modulate"),
]


@pytest.fixture(autouse=True)
def loaded() -> None:
    kernels_on(CUDA.type)


def leaves(tensors: Sequence[Tensor], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    return [t.detach().to(device, dtype).requires_grad_() for t in tensors]


@pytest.mark.parametrize(("operation", "twin", "inputs"), OPERATIONS)
def test_first_and_second_derivatives_are_the_references(
    operation: Operation, twin: Operation, inputs: Callable[[], Sequence[Tensor]]
) -> None:
    found: list[list[Tensor]] = []
    for function, device, dtype in (
        (operation, CUDA, torch.float32),
        (twin, torch.device("cpu"), torch.float64),
    ):
        given = leaves(inputs(), device, dtype)
        plain = torch.autograd.grad(function(*given).square().sum(), given)
        first = torch.autograd.grad(function(*given).square().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(each.square().sum() for each in first), given)
        found.append([each.detach().cpu().double() for each in (*plain, *first, *second)])
    for ours, expected in zip(*found, strict=True):
        assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max().clamp(min=1)


def test_they_are_registered_as_torch_wants() -> None:
    inputs = leaves(SMALL.tensors(), CUDA, torch.float32)
    torch.library.opcheck(registered.isotropic_conv, inputs, test_utils=OPCHECKS)
    inputs = leaves(sft_inputs(), CUDA, torch.float32)
    torch.library.opcheck(registered.sft_modulate, (*inputs, 0.2), test_utils=OPCHECKS)


@pytest.mark.parametrize(("operation", "twin", "inputs"), OPERATIONS)
def test_compiled_they_give_the_same(
    operation: Operation, twin: Operation, inputs: Callable[[], Sequence[Tensor]]
) -> None:
    del twin
    compiled = torch.compile(operation, backend="aot_eager")
    plain, again = (leaves(inputs(), CUDA, torch.float32) for _ in range(2))
    operation(*plain).sum().backward()
    compiled(*again).sum().backward()
    for one, other in zip(plain, again, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize(("operation", "twin", "inputs"), OPERATIONS)
def test_on_a_stream_of_its_own_it_waits_for_what_stands_there(
    operation: Operation, twin: Operation, inputs: Callable[[], Sequence[Tensor]]
) -> None:
    del twin
    given = [t.to(CUDA, torch.float32) for t in inputs()]
    expected = operation(*[3 * t for t in given])
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # cycles: a kernel elsewhere would read what is not made yet
        found = operation(*[3 * t for t in given])
    stream.synchronize()
    assert torch.equal(found, expected)


def test_isotropic_conv_can_be_captured() -> None:
    given = [t.to(CUDA) for t in Case(channels=3, height=40, width=48).tensors()]
    ops.isotropic_conv(*given)  # loads the kernels
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = ops.isotropic_conv(*given)
    given[0].mul_(-3)
    graph.replay()
    assert torch.equal(out, ops.isotropic_conv(*given))


@pytest.mark.parametrize(("operation", "twin", "inputs"), OPERATIONS)
def test_a_second_gpu_computes_on_itself(
    operation: Operation, twin: Operation, inputs: Callable[[], Sequence[Tensor]]
) -> None:
    del twin
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    one, other = (
        operation(*[t.to(f"cuda:{index}", torch.float32) for t in inputs()]) for index in (0, 1)
    )
    assert other.device.index == 1
    assert torch.equal(one.cpu(), other.cpu())
