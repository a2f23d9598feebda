"""APL's recipe: simulated pairs, whose turn it is, and what each is compared with."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from allfocus.runtime.errors import UsageError
from allfocus.train import losses
from allfocus.train.data import Batch
from allfocus.train.lbp_prior import focus_prior
from allfocus.train.models import build
from allfocus.train.recipe import Options
from allfocus.train.recipes.apl import AplRecipe, detection, simulate
from allfocus.train.recipes.plain import PlainRecipe

PLAN = replace(AplRecipe.paper, crop=32, epochs=(1,) * 7, total=7)


def batch(*, has_map: bool = True) -> Batch:
    blurry, sharp = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    defocus = torch.zeros(1, 1, 32, 32)
    defocus[..., :8] = 1
    return Batch(blurry, sharp, defocus, has_map)


def recipe(**options: bool) -> AplRecipe:
    return AplRecipe("apl-tiny", build("apl-tiny"), PLAN, Options(**options))


def test_simulated_pictures_are_blurred_in_their_larger_part_alone() -> None:
    torch.manual_seed(0)
    sharp = torch.rand(4, 3, 40, 40)
    blurry, focus = simulate(sharp)
    shares = (1 - focus).mean((1, 2, 3))
    assert ((shares > 0.57) & (shares < 0.73)).all()
    kept = focus.expand_as(sharp) == 1
    assert torch.equal(blurry[kept], sharp[kept])
    assert (blurry[~kept].std() < 0.8 * sharp[~kept].std()).item()
    assert blurry[~kept].mean().item() == pytest.approx(sharp[~kept].mean().item(), abs=0.02)
    flat = torch.full((1, 3, 20, 20), 0.25)
    torch.testing.assert_close(simulate(flat)[0], flat)


def test_the_judge_comes_first_and_the_others_by_turns() -> None:
    one = recipe()
    turns = [one.turns(step) for step in range(7)]
    by = {"d": ("judge", "detector"), "r": ("judge", "restorer")}
    assert turns == [("restorer",), *(by[k] for k in "drdrdr")]


def test_the_papers_epochs_are_those_of_its_2500_pairs_first() -> None:
    assert AplRecipe.paper.stage_steps(1) == pytest.approx(100 * 2500, rel=1e-3)
    assert AplRecipe.paper.stage_steps(2) == 100 * 604


def test_a_map_is_compared_with_the_prior_or_with_the_true_mask() -> None:
    data, focus = batch(), torch.full((1, 1, 32, 32), 0.25)
    prior = detection(focus, data, labels=False, radius=8.0)
    expected = losses.absolute(focus, focus_prior(data.blurry)).item()
    assert prior["prior"].item() == pytest.approx(expected)
    mask = detection(focus, data, labels=True, radius=8.0)
    known = (3 * math.log(4) - math.log(0.75)) / 4  # three quarters are in focus
    assert mask["focus"].item() == pytest.approx(known)
    with pytest.raises(UsageError, match="no maps to take masks from"):
        detection(focus, batch(has_map=False), labels=True, radius=8.0)


def test_what_half_a_pixel_blurs_is_no_longer_in_focus() -> None:
    data = batch()
    data.defocus[:] = 0.49 / 8
    sure = torch.full((1, 1, 32, 32), 1 - 1e-7)
    assert detection(sure, data, labels=True, radius=8.0)["focus"].item() < 1e-3
    data.defocus[:] = 0.51 / 8
    assert detection(sure, data, labels=True, radius=8.0)["focus"].item() > 10


def test_what_something_in_front_spills_over_is_not_in_focus() -> None:
    data = batch()
    data.defocus[:] = 0
    sure = torch.full((1, 1, 32, 32), 1 - 1e-7)
    spilt = replace(data, seen=torch.full_like(data.defocus, 2 / 8))
    assert detection(sure, data, labels=True, radius=8.0)["focus"].item() < 1e-3
    assert detection(sure, spilt, labels=True, radius=8.0)["focus"].item() > 10
    plain = replace(PlainRecipe.paper, crop=32, total=7)
    detector = PlainRecipe("apl-detect-tiny", build("apl-detect-tiny"), plain, Options())
    before, after = (detector.losses(0, each, "net")["focus"].item() for each in (data, spilt))
    assert before != after


def test_the_detector_is_reached_through_the_deblurred_picture() -> None:
    one = recipe()
    torch.nn.init.normal_(one.net.restorer.tail.weight)  # a new net adds nothing yet
    one.losses(1, batch(), "detector")["adversarial"].backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for p in one.net.detector.parameters()]
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)


def test_a_judge_that_knows_nothing_pays_ln_2_for_each() -> None:
    one = recipe()
    for parameter in one.judge.judge.parameters():
        torch.nn.init.zeros_(parameter)
    parts = one.losses(1, batch(), "judge")
    assert [p.item() for p in parts.values()] == pytest.approx([math.log(2)] * 2)
    assert list(one.saved) == ["apl-tiny", "apl-detect-tiny"]
