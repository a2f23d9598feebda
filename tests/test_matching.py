"""How alike two views are when one is shifted against the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from allfocus.train.models.matching import WINDOWS, matching, planes, reach

SHIFTS = 4


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)


@given(st.integers(-SHIFTS, SHIFTS))
def test_the_shift_between_the_views_matches_best(shift: int) -> None:
    """Right shows at a column what left shows `shift` columns further right."""
    wide = noise(24, 60)
    left, right = wide[..., 10:50], wide[..., 10 + shift : 50 + shift]
    found = matching(left, right, SHIFTS)
    assert found.shape == (1, planes(SHIFTS), 24, 40)
    for costs in found.chunk(len(WINDOWS), dim=1):
        inner = costs[..., 10:-10]
        assert (inner.argmin(1) == SHIFTS + shift).all()
        torch.testing.assert_close(inner.amin(1), torch.full_like(inner[:, 0], -1.0))


def test_each_plane_is_the_mean_difference_over_its_window_in_parts_of_all_shifts() -> None:
    left, right = noise(30, 30), noise(30, 30, 1)
    found = matching(left, right, 1)
    y, x = 15, 14
    for index, (window, floor) in enumerate(zip(WINDOWS, (0.01, 0.005), strict=True)):
        half = window // 2
        rows = slice(y - half, y + half + 1)
        means = [
            (
                left[0, :, rows, x - half + shift : x + half + 1 + shift]
                - right[0, :, rows, x - half : x + half + 1]
            )
            .abs()
            .mean()
            for shift in (-1, 0, 1)
        ]
        all_shifts = torch.stack(means).mean() + floor
        for plane, mean in enumerate(means):
            got = found[0, 3 * index + plane, y, x]
            assert float(got) == pytest.approx(float(mean / all_shifts - 1))


def test_where_nothing_tells_the_shifts_apart_they_are_all_alike() -> None:
    flat = torch.full((1, 3, 16, 16), 0.4)
    found = matching(flat, flat + 0.1, SHIFTS)
    for costs in found.chunk(len(WINDOWS), dim=1):
        assert float(costs.amax(1).sub(costs.amin(1)).max()) < 1e-6
    assert -0.1 < float(found.min()) < float(found.max()) < 0


def test_a_plane_depends_on_nothing_farther_than_its_reach() -> None:
    left, right = noise(32, 64), noise(32, 64, 1)
    changed, far = left.clone(), 32 + reach(SHIFTS)
    changed[..., far + 1 :] = 0
    near = left.clone()
    near[..., far:] = 0
    here = (slice(None), slice(None), slice(None), 32)
    whole = matching(left, right, SHIFTS)[here]
    torch.testing.assert_close(matching(changed, right, SHIFTS)[here], whole, rtol=0, atol=1e-12)
    assert not torch.allclose(matching(near, right, SHIFTS)[here], whole)


def test_at_the_borders_only_what_lies_in_the_picture_counts() -> None:
    """A window's mean is over fewer positions there, with no zeros among them."""
    left, right = noise(12, 40), noise(12, 40, 1)
    found = matching(left, right, 0)
    gap = (left - right).abs().mean(1, keepdim=True)
    corner = gap[..., :2, :2].mean()  # of the 3x3 window around the corner, these are inside
    assert float(found[0, 0, 0, 0]) == pytest.approx(float(corner / (corner + 0.01) - 1))
    assert F.avg_pool2d(gap, 3, 1, 1)[0, 0, 0, 0] < corner
