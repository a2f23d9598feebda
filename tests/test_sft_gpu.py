"""What only a GPU can show of the SFT kernels: capture in a graph, tensors past 2^31 elements."""

from __future__ import annotations

import pytest
import torch
from emulated import kernels_on
from sft_cases import Case, moved, moved_all

pytestmark = pytest.mark.gpu


def test_launchers_can_be_captured() -> None:
    """Neither allocates nor waits: CUDA refuses to capture what does."""
    kernels, case = kernels_on("cuda"), Case(2, 16, 40, 48, slope=0.2)
    inputs, grad = moved_all("cuda", case.inputs()), moved("cuda", case.grad())
    every = (True, True, True, True)
    kernels.sft_modulate_backward(grad, *inputs, 0.2, every)  # loads the kernels
    kernels.sft_modulate(*inputs, 0.2)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = kernels.sft_modulate(*inputs, 0.2)
        grads = kernels.sft_modulate_backward(grad, *inputs, 0.2, every)
    inputs[0].mul_(-3)
    graph.replay()
    assert torch.equal(out, kernels.sft_modulate(*inputs, 0.2))
    again = kernels.sft_modulate_backward(grad, *inputs, 0.2, every)
    for captured, direct in zip(grads, again, strict=True):
        assert captured is not None
        assert direct is not None
        assert torch.equal(captured, direct)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_more_elements_than_31_bits_count(layout: torch.memory_format) -> None:
    kernels = kernels_on("cuda")
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("needs 24 GiB of free GPU memory")
    channels = 5
    shape = (1, channels, 2**15, 2**14)  # 5 * 2^29 elements
    made = torch.empty(shape, dtype=torch.float16, device="cuda", memory_format=layout)
    features, grad = made.fill_(0.5), torch.full_like(made, 2**-14)
    gamma = torch.arange(1.0, 1 + channels, device="cuda").half().reshape(1, channels, 1, 1)
    beta = 2 * gamma
    out = kernels.sft_modulate(features, gamma, None, beta, 1.0)
    assert all((out[0, c] == 2.5 * (c + 1)).all() for c in range(channels))
    del out
    grads = kernels.sft_modulate_backward(
        grad, features, gamma, None, beta, 0.0, (True, True, False, True)
    )
    assert grads[0] is not None
    assert all((grads[0][0, c] == 2**-14 * (c + 1)).all() for c in range(channels))
    for summed, each in ((grads[1], 2**-15), (grads[3], 2**-14)):
        assert summed is not None
        assert (summed == 2**29 * each).all()
