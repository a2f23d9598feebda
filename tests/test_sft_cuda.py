"""The SFT kernels: compiled for the CPU always, and on a GPU where there is one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import sft_cases
import torch
from emulated import kernels_on
from hypothesis import example, given
from hypothesis import strategies as st
from sft_cases import Case, Wanted, each, moved, moved_all
from torch import Tensor

from allfocus.kernels import reference

DTYPES = list(sft_cases.ROUNDING)
EVERY: Wanted = (True, True, True, True)

# The decomposed form, the plain one, the one of channels alone, and what else the interface takes.
FORMS = [
    Case(gamma_full=gamma, spatial=spatial, beta_full=beta)
    for gamma, spatial, beta in product((False, True), repeat=3)
]


def named(form: Case) -> str:
    parts = {"gamma": form.gamma_full, "gamma_s": form.spatial, "beta": form.beta_full}
    return "-".join(name for name, there in parts.items() if there) or "channels"


CASES = st.builds(
    Case,
    n=st.integers(1, 3),
    channels=st.one_of(st.integers(1, 40), st.sampled_from([8, 64, 256])),
    height=st.integers(1, 9),
    width=st.one_of(st.integers(1, 9), st.sampled_from([8, 16, 64])),
    channels_last=st.booleans(),
    gamma_full=st.booleans(),
    spatial=st.booleans(),
    beta_full=st.booleans(),
    slope=st.sampled_from([1.0, 0.0, 0.2, -0.5, 3.0]),
    dtype=st.sampled_from(DTYPES),
    offset=st.sampled_from([0, 0, 1, 4]),
    seed=st.integers(0, 2**31),
)


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    kernels_on(name)  # skips where there is no GPU
    return name


def assert_near(got: Tensor | None, expected: tuple[Tensor, Tensor] | None, like: Tensor) -> None:
    assert got is not None
    assert expected is not None
    wanted, tolerance = expected
    assert got.dtype == like.dtype
    assert got.shape == like.shape
    assert got.stride() == like.stride()
    off = (got.cpu().double() - wanted).abs() - tolerance
    assert off.max() <= 0, f"off by {float(off.max()):.3g} more than {float(tolerance.max()):.3g}"


def check_forward(case: Case, device: str) -> None:
    inputs = case.inputs()
    got = kernels_on(device).sft_modulate(*moved_all(device, inputs), case.slope)
    assert_near(got, sft_cases.forward(case, inputs), inputs[0])


def check_backward(case: Case, device: str) -> None:
    inputs, grad = case.inputs(), case.grad()
    got = kernels_on(device).sft_modulate_backward(
        moved(device, grad),
        *moved_all(device, inputs),
        case.slope,
        (True, True, case.spatial, True),
    )
    expected = sft_cases.backward(case, inputs, grad)
    for mine, right, tensor in zip(got, expected, inputs, strict=True):
        if tensor is None:
            assert mine is None
        else:
            assert_near(mine, right, tensor)


@given(case=CASES)
@example(case=Case(channels=1, height=1, width=1))
@example(case=Case(channels=5, height=7, width=3, gamma_full=True, spatial=False))  # rows joined
@example(case=Case(n=2, channels=16, height=7, width=3, gamma_full=True, spatial=False))
def test_any_forward_equals_the_reference(case: Case, device: str) -> None:
    check_forward(case, device)


@given(case=CASES)
@example(case=Case(channels=1, height=1, width=1))
@example(case=Case(n=2, channels=16, height=7, width=3, gamma_full=True, spatial=False))
def test_any_backward_equals_the_reference(case: Case, device: str) -> None:
    check_backward(case, device)


@pytest.mark.parametrize("form", FORMS, ids=named)
@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_form_equals_the_reference(
    dtype: torch.dtype, channels_last: bool, form: Case, device: str
) -> None:
    for slope, width in product((1.0, 0.0, 0.2), (16, 7)):
        sizes = replace(form, n=2, channels=16, height=5, width=width)
        case = replace(sizes, channels_last=channels_last, dtype=dtype, slope=slope)
        check_forward(case, device)
        check_backward(case, device)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sizes_where_tiles_end(dtype: torch.dtype, device: str) -> None:
    width = 16 // dtype.itemsize
    for shape, channels_last in product(sft_cases.shapes_around(width), (False, True)):
        case = replace(shape, dtype=dtype, channels_last=channels_last, slope=0.2)
        check_forward(case, device)
        check_backward(case, device)


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
def test_more_channels_and_images_than_a_grid_has_rows(channels_last: bool, device: str) -> None:
    for n, channels in ((1, 70_001), (257, 256)):
        case = Case(n, channels, 1, 1, channels_last, beta_full=False)
        check_forward(case, device)
        check_backward(case, device)
    check_forward(Case(65_537, 1, 1, 1, channels_last), device)


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
def test_sums_over_a_picture_are_good_to_a_millionth(channels_last: bool, device: str) -> None:
    case = Case(1, 2, 400, 600, channels_last, beta_full=False)
    inputs = each(Tensor.abs, case.inputs())  # sums of 240,000 of one sign
    grad = case.grad().abs()
    got = kernels_on(device).sft_modulate_backward(
        moved(device, grad), *moved_all(device, inputs), case.slope, EVERY
    )
    expected = sft_cases.backward(case, inputs, grad)
    for mine, right in zip(got, expected, strict=True):
        assert mine is not None
        assert right is not None
        assert ((mine.cpu() - right[0]).abs() / right[0]).max() < 1e-6


@pytest.mark.parametrize("channels_last", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("form", FORMS, ids=named)
def test_only_wanted_gradients_are_made_and_always_the_same(
    form: Case, channels_last: bool, device: str
) -> None:
    sizes = replace(form, n=2, channels=24, height=17, width=24)
    case = replace(sizes, channels_last=channels_last, slope=0.2)
    kernels, grad, inputs = (
        kernels_on(device),
        moved(device, case.grad()),
        moved_all(device, case.inputs()),
    )
    whole = kernels.sft_modulate_backward(grad, *inputs, case.slope, EVERY)
    for one, two, three, four in product((False, True), repeat=4):
        wanted = (one, two, three, four)
        part = kernels.sft_modulate_backward(grad, *inputs, case.slope, wanted)
        for every, some, asked in zip(whole, part, wanted, strict=True):
            assert (some is not None) == (asked and every is not None)
            assert some is None or every is None or torch.equal(some, every)


@pytest.mark.parametrize("slope", [1.0, 0.0, 0.2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_passes_as_in_the_reference(
    value: float, slope: float, device: str
) -> None:
    for form, channels_last, place in product(FORMS, (False, True), range(4)):
        case = replace(form, n=2, channels_last=channels_last, slope=slope)
        inputs, grad = case.inputs(), case.grad()
        tensor = inputs[place]
        if tensor is None:
            continue
        tensor[1, -1, -1, -1] = value
        wanted = reference.sft_modulate(*inputs, slope=slope)
        got = kernels_on(device).sft_modulate(*moved_all(device, inputs), slope).cpu()
        assert not wanted.isfinite().all() or slope == 0
        _assert_alike(got, wanted)
        expected = sft_cases.backward(case, inputs, grad)
        grads = kernels_on(device).sft_modulate_backward(
            moved(device, grad), *moved_all(device, inputs), slope, EVERY
        )
        for mine, right in zip(grads, expected, strict=True):
            if mine is not None and right is not None:
                _assert_alike(mine.cpu(), right[0])


def _assert_alike(got: Tensor, wanted: Tensor) -> None:
    """NaN and the infinities at the same places."""
    assert torch.equal(got.isnan(), wanted.isnan())
    infinite = wanted.isinf()
    assert torch.equal(got.isinf(), infinite)
    assert torch.equal(got[infinite].double(), wanted[infinite].double())


def test_relu_of_what_is_not_finite(device: str) -> None:
    ones = torch.ones(1, 5, 1, 1)
    values = torch.tensor([float("nan"), float("-inf"), float("inf"), -0.0, -2.0])
    features = values.reshape(1, 5, 1, 1)
    inputs = moved_all(device, (features, ones, None, torch.zeros(1, 5, 1, 1)))
    got = kernels_on(device).sft_modulate(*inputs, 0.0).flatten().tolist()
    assert got[0] != got[0]
    assert got[1:] == [0, float("inf"), 0, 0]


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
def test_the_gradient_where_the_activation_bends_is_that_of_below(
    slope: float, device: str
) -> None:
    ones, zeros = torch.ones(1, 8, 1, 1), torch.zeros(1, 8, 1, 1)
    inputs = moved_all(device, (zeros, ones, None, zeros))
    grads = kernels_on(device).sft_modulate_backward(
        moved(device, ones), *inputs, slope, (True, False, False, True)
    )
    for grad in (grads[0], grads[3]):
        assert grad is not None
        assert torch.equal(grad.cpu(), slope * ones)


def test_a_half_overflows_to_infinity(device: str) -> None:
    features = torch.full((1, 8, 1, 1), 60_000.0, dtype=torch.float16)
    two = torch.full_like(features, 2)
    inputs = moved_all(device, (features, two, None, torch.zeros_like(features)))
    assert kernels_on(device).sft_modulate(*inputs, 1.0).isposinf().all()
