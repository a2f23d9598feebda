"""Samples in other colours: what stays as it was, and what does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allfocus.runtime.errors import UsageError
from allfocus.train.recipe import Plan
from allfocus.train.synthetic import Sample
from allfocus.train.tint import Tinted, tinted


def sample(seed: int = 0) -> Sample:
    blurry, sharp = np.random.default_rng(seed).random((2, 8, 8, 3), np.float32)
    return Sample(blurry, sharp, np.full((8, 8), 2, np.float32))


class Drawn:
    """Samples that know their number."""

    has_map = has_sharp = has_views = True

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> Sample:
        return sample(index)


def of(share: float, seed: int = 3) -> Tinted:
    return Tinted(Drawn(), share, seed)  # type: ignore[arg-type]


@given(st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_pictures_are_changed_alike_and_stay_pictures(seed: int) -> None:
    given = sample()
    given = replace(given, moved=given.blurry)
    found = tinted(np.random.default_rng(seed), given)
    assert found.left is None
    assert found.moved is not None
    np.testing.assert_array_equal(found.moved, found.blurry)
    np.testing.assert_array_equal(found.radius, given.radius)
    for picture in (found.blurry, found.sharp):
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 1
        assert np.isfinite(picture).all()


def test_a_grey_picture_stays_in_order() -> None:
    """Brighter stays brighter: no tone curve turns a picture over."""
    ramp = np.repeat(np.linspace(0, 1, 8, dtype=np.float32)[None, :, None], 3, axis=2)
    found = tinted(np.random.default_rng(1), replace(sample(), blurry=ramp, sharp=ramp))
    assert (np.diff(found.blurry, axis=1) > 0).all()
    assert found.blurry[0, 0].max() == 0
    assert found.blurry[0, -1].min() == 1


def test_a_share_of_samples_is_changed_the_same_one_for_the_same_seed() -> None:
    every = Drawn()
    changed = [not np.array_equal(of(0.5)[i].sharp, every[i].sharp) for i in range(len(every))]
    assert 10 < sum(changed) < 40
    again = [of(0.5)[i].sharp for i in range(5)]
    assert all(np.array_equal(of(0.5)[i].sharp, again[i]) for i in range(5))
    assert not any(not np.array_equal(of(0.0)[i].sharp, every[i].sharp) for i in range(20))
    assert len(of(1.0)) == 50


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="tints: expected a share from 0 to 1, got"):
        Plan(tints=share)
