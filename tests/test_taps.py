"""Rings of isotropic kernels cover each element once; seeds are counted as in the paper."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.kernels.taps import levels_of, seed_count, seed_slice, taps
from allfocus.runtime.errors import UsageError


@given(level=st.integers(1, 20))
def test_rings_cover_a_kernel_once(level: int) -> None:
    elements = [offset for tap in taps(level) for offset in tap.offsets]
    span = range(1 - level, level)
    assert sorted(elements) == [(y, x) for y in span for x in span]
    assert len(taps(level)) == level * (level + 1) // 2


@given(level=st.integers(2, 20))
def test_values_lie_between_the_seeds_around_their_distance(level: int) -> None:
    for index, tap in enumerate(taps(level)):
        assert index == tap.dx * (tap.dx + 1) // 2 + tap.dy
        distance = math.hypot(tap.dy, tap.dx)
        if tap.inner is None:
            assert distance > level - 1
        else:
            assert tap.inner + tap.fraction == pytest.approx(distance)
            assert 0 <= tap.fraction < 1
            assert tap.inner < level - (tap.fraction > 0)


def test_the_papers_numbers() -> None:
    assert seed_count(8) == 35
    assert sum(len(taps(level)) for level in range(2, 9)) == 119
    assert sum((2 * level - 1) ** 2 for level in range(2, 9)) == 679


@given(levels=st.integers(1, 60))
def test_levels_follow_from_seeds(levels: int) -> None:
    assert levels_of(seed_count(levels)) == levels
    ends = [seed_slice(level) for level in range(2, levels + 1)]
    assert [e.stop - e.start for e in ends] == list(range(2, levels + 1))


@pytest.mark.parametrize("seeds", [-1, 1, 3, 34, 36])
def test_numbers_that_no_levels_have_are_refused(seeds: int) -> None:
    with pytest.raises(UsageError, match=f"{seeds} channels; expected 2\\+3"):
        levels_of(seeds)
