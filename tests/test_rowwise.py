"""Gradients of the spatial feature transform on a CPU, against float64, however rows are cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import sft_cases
import torch
from hypothesis import given
from hypothesis import strategies as st
from sft_cases import Case

from allfocus.kernels import ops, rowwise

CASES = st.builds(
    Case,
    n=st.integers(1, 3),
    channels=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 6),
    channels_last=st.booleans(),
    gamma_full=st.booleans(),
    spatial=st.booleans(),
    beta_full=st.booleans(),
    slope=st.sampled_from([1.0, 0.0, 0.2, -0.5]),
    dtype=st.sampled_from(list(sft_cases.ROUNDING)),
    seed=st.integers(0, 99),
)
WANTED = list(product([False, True], repeat=4))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_what_is_cut_off_has_no_gradient_however_large_and_nan_has_it_whole() -> None:
    """As the CUDA kernel and PyTorch's ReLU have it."""
    features = torch.tensor([-1.0, -1.0, torch.nan, 1.0]).reshape(1, 1, 1, 4)
    one = torch.ones(1, 1, 1, 1)
    grad = torch.tensor([torch.inf, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    inputs = (features, one, None, torch.zeros_like(features))
    found = rowwise.sft_modulate_backward(grad, inputs, 0.0, (True, False, False, False))[0]
    assert found is not None
    assert found.flatten().tolist() == [0, 0, 3, 4]


@given(CASES, st.integers(1, 200), st.sampled_from(WANTED))
def test_gradients_are_those_of_float64(
    case: Case, piece: int, wanted: tuple[bool, bool, bool, bool]
) -> None:
    inputs, grad = case.inputs(), case.grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowwise, "_PIECE", piece)
        found = rowwise.sft_modulate_backward(grad, inputs, case.slope, wanted)
    expected = sft_cases.backward(case, inputs, grad)
    for given_, want, got, right in zip(inputs, wanted, found, expected, strict=True):
        if given_ is None or not want:
            assert got is None
            continue
        assert got is not None
        assert right is not None
        assert (got.dtype, got.shape) == (given_.dtype, given_.shape)
        assert ((got.double() - right[0]).abs() <= right[1]).all()


def test_it_is_what_training_runs_in_the_layout_of_its_net(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rowwise, "_PIECE", 1)
    case = Case(n=2, height=7, channels_last=True, dtype=torch.bfloat16)
    features, gamma, gamma_s, beta = (
        None if each is None else each.requires_grad_() for each in case.inputs()
    )
    assert features is not None
    assert gamma is not None
    assert beta is not None
    ops.sft_modulate(features, gamma, gamma_s, beta).backward(case.grad())  # type: ignore[no-untyped-call]
    for each in (features, beta):
        assert each.grad is not None
        assert each.grad.is_contiguous(memory_format=torch.channels_last)
