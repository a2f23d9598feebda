"""The reference against the papers' equations written out, and its size at work."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isotropic_cases import Case, by_elements
from torch import Tensor

from allfocus.kernels import reference

SIZES = st.builds(
    Case,
    n=st.integers(1, 2),
    channels=st.integers(1, 5),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    levels=st.integers(2, 9),
    scale=st.sampled_from([0.0, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)


@settings(max_examples=40)
@given(case=SIZES)
def test_isotropic_conv_is_what_the_equations_say(case: Case) -> None:
    inputs = case.tensors(torch.float64)
    torch.testing.assert_close(reference.isotropic_conv(*inputs), by_elements(*inputs))


@given(case=SIZES)
def test_a_flat_image_stays_flat_inside(case: Case) -> None:
    """Each kernel sums to 1, and so do the weights."""
    margin = case.levels - 1
    _, seeds, weights = case.tensors(torch.float64)
    inner = (
        torch.nn.functional.pad(seeds, (margin,) * 4),
        torch.nn.functional.pad(weights, (margin,) * 4),
    )
    image = torch.full((case.n, 1, *inner[0].shape[2:]), 0.7, dtype=torch.float64)
    out = reference.isotropic_conv(image, *inner)
    middle = out[..., margin : margin + case.height, margin : margin + case.width]
    torch.testing.assert_close(middle, torch.full_like(middle, 0.7))


def test_large_seeds_do_not_overflow() -> None:
    inputs = Case(scale=1e4).tensors()
    assert reference.isotropic_conv(*inputs).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_summed_in_float32(dtype: torch.dtype) -> None:
    inputs = Case(height=20, width=20).tensors(dtype)
    wide = reference.isotropic_conv(*(t.float() for t in inputs))
    assert torch.equal(reference.isotropic_conv(*inputs), wide.to(dtype))


def modulated(f: Tensor, gamma: Tensor, spatial: Tensor | None, beta: Tensor) -> Tensor:
    return f * (gamma if spatial is None else gamma * spatial) + beta


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("gamma_full", [False, True])
@pytest.mark.parametrize("beta_full", [False, True])
def test_sft_modulate(spatial: bool, gamma_full: bool, beta_full: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    full, small = (2, 3, 5, 4), (2, 3, 1, 1)
    features, gamma = draw(*full), draw(*(full if gamma_full else small))
    beta, gamma_s = draw(*(full if beta_full else small)), draw(2, 1, 5, 4) if spatial else None
    plain = modulated(features, gamma, gamma_s, beta)
    for slope, wanted in (
        (1.0, plain),
        (0.0, plain.relu()),
        (0.2, plain.where(plain > 0, 0.2 * plain)),
    ):
        got = reference.sft_modulate(features, gamma, gamma_s, beta, slope)
        torch.testing.assert_close(got, wanted)


_AT_SIZE = """
import resource, torch
from allfocus.kernels import reference
torch.manual_seed(0)
inputs = [torch.rand(1, c, 400, 600) for c in (3, 35, 8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.inference_mode():
    reference.isotropic_conv(*inputs)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_at_600x400() -> None:
    """At most 2 GB; 0.25 GB were measured."""
    done = subprocess.run(
        [sys.executable, "-c", _AT_SIZE], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 2e9  # ru_maxrss is in KiB on Linux
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > 0
