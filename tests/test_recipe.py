from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.errors import UsageError
from allfocus.train.data import Batch
from allfocus.train.models import build
from allfocus.train.models.didanet import Config, DidANet
from allfocus.train.recipe import Options, Plan
from allfocus.train.recipes import recipe_of
from allfocus.train.recipes.didanet import parts
from allfocus.train.recipes.plain import PlainRecipe

TINY = Config(map_features=4, map_blocks=1, features=8, blocks=3)


def batch(*, has_map: bool = True) -> Batch:
    blurry, sharp = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Batch(blurry, sharp, torch.full((2, 1, 16, 16), 0.5), has_map)


def test_the_defaults_are_the_papers() -> None:
    plan = Plan()
    assert [plan.stage_steps(s) for s in (1, 2, 3)] == [25300, 12650, 25300]
    assert (plan.batch, plan.crop, plan.offset) == (16, 256, 1 / 9)


def test_stages_follow_one_another() -> None:
    plan = Plan(scale=0.01)
    first, second = plan.stage_steps(1), plan.stage_steps(2)
    steps = (0, first - 1, first, first + second - 1, first + second, plan.steps - 1)
    assert [plan.stage(s) for s in steps] == [1, 1, 2, 2, 3, 3]


def test_a_stage_of_no_epochs_is_left_out() -> None:
    plan = Plan(scale=0.01, epochs=(4, 2, 0))
    assert plan.stage_steps(3) == 0
    assert plan.stage(plan.steps - 1) == 2


@given(st.floats(1e-4, 3), st.sampled_from(["constant", "cosine"]), st.integers(0, 50))
def test_the_rate_stays_within_its_bounds(scale: float, schedule: str, warmup: int) -> None:
    plan = Plan(scale=scale, schedule=schedule, warmup=warmup)  # type: ignore[arg-type]
    for step in (0, plan.steps // 2, plan.steps - 1):
        assert 0 < plan.rate(step) <= plan.learning_rate


@given(st.integers(1, 500), st.tuples(*[st.integers(0, 400)] * 3).filter(any))
def test_all_steps_are_shared_in_proportion(total: int, epochs: tuple[int, ...]) -> None:
    plan = Plan(total=total, epochs=epochs)
    shares = [plan.stage_steps(s) for s in (1, 2, 3)]
    assert sum(shares) == plan.steps == total
    for share, epoch in zip(shares, epochs, strict=True):
        assert abs(share - total * epoch / sum(epochs)) <= 1
        assert epoch or not share


def test_halving_counts_epochs_however_long_they_are() -> None:
    plan = Plan(schedule="halving", halve=60, stages=2, epochs=(15, 85), total=1000)
    rates = [plan.rate(step) / plan.learning_rate for step in (0, 599, 600, 999)]
    assert rates == [1, 1, 0.5, 0.5]


def test_depth_grows_in_stage_one_and_is_full_afterwards() -> None:
    plan = Plan(scale=0.01, depths=(1, 2, 99))
    first = plan.stage_steps(1)
    steps = (0, first // 2, first - 1, first, plan.steps - 1)
    assert [plan.depth(s, 3) for s in steps] == [1, 2, 3, 3, 3]


def test_switching_blocks_on_changes_no_output() -> None:
    net = DidANet(TINY)
    torch.nn.init.normal_(net.restorer.tail.weight)
    image, defocus = torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8)
    net.restorer.depth = 1
    shallow = net.restore(image, defocus)
    net.restorer.depth = 3
    torch.testing.assert_close(net.restore(image, defocus), shallow)


def test_stage_one_feeds_the_true_map() -> None:
    net = DidANet(TINY)
    seen: list[torch.Tensor] = []
    net.restorer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    data = batch()
    for stage in (1, 2):
        parts(net, data, stage, 1 / 9)
    assert torch.equal(seen[0], data.defocus)
    assert not torch.equal(seen[1], data.defocus)


def test_each_stage_has_its_losses() -> None:
    net = DidANet(TINY)
    found = {stage: set(parts(net, batch(), stage, 1 / 9)) for stage in (1, 2, 3)}
    assert found == {1: {"deblur", "map"}, 2: {"deblur", "map"}, 3: {"deblur", "reevaluation"}}


def test_without_maps_there_is_no_map_loss() -> None:
    assert set(parts(DidANet(TINY), batch(has_map=False), 1, 1 / 9)) == {"deblur"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"scale": -1.0},
        {"epochs": (1, 2)},
        {"depths": (0,)},
        {"warmup": -5},
        *({name: math.inf} for name in ("scale", "learning_rate", "offset")),
        {"offset": math.nan},
    ],
)
def test_a_plan_without_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Plan(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "crop", "said"),
    [
        ("jdrl-unet-tiny", 50, "multiples of 4 pixels, got 50; give --crop 48 or 52"),
        ("defocusgan-tiny", 5, "multiples of 16 pixels, got 5; give --crop 16"),
    ],
)
def test_a_crop_the_net_cannot_take_is_refused(model: str, crop: int, said: str) -> None:
    net = build(model)
    with pytest.raises(UsageError, match=said):
        recipe_of(model, net, "plain")(model, net, replace(PlainRecipe.paper, crop=crop), Options())


@pytest.mark.parametrize(
    ("model", "epochs", "maps", "sharp"),
    [
        ("didanet-tiny", (0, 1), False, True),
        ("didanet-tiny", (1, 1), True, True),
        ("didanet-tiny", (1, 0), True, False),
        ("apl-detect-tiny", (0, 1), True, False),
        ("jdrl-reblur-tiny", (0, 1), False, True),
    ],
)
def test_the_plain_recipe_refuses_data_without_its_truth(
    model: str, epochs: tuple[int, int], maps: bool, sharp: bool
) -> None:
    plan = replace(PlainRecipe.paper, epochs=epochs)
    one = PlainRecipe(model, build(model), plan, Options())
    one.check_data("folder", has_map=maps, has_sharp=sharp)
    if maps:
        with pytest.raises(UsageError, match=r"folder: no maps.*allfocus data make-maps"):
            one.check_data("folder", has_map=False, has_sharp=True)
    if sharp:
        with pytest.raises(UsageError, match="folder: no sharp pictures"):
            one.check_data("folder", has_map=True, has_sharp=False)


@pytest.mark.parametrize(
    ("model", "lost"),
    [
        ("didanet", "the estimator learnt from no true map"),
        ("sftnet", "the estimator learnt from no true map"),
        ("defocusgan", "no masks guided the branches"),
    ],
)
def test_what_is_done_without_maps_is_told_and_stays_with_the_weights(
    model: str, lost: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{model}-tiny"
    net = build(name)
    kind = recipe_of(name, net)
    plan = replace(kind.paper, epochs=(1, *(1, 0)[: kind.paper.stages - 1]))
    one = kind(name, net, plan, Options())
    one.go_without("folder", has_map=True)
    assert lost not in one.remark
    one.go_without("folder", has_map=False)
    assert f"folder: no maps, so {lost}; make them by" in caplog.text
    assert lost in one.remark


@pytest.mark.parametrize(
    ("name", "lost"), [("didanet-tiny", True), ("apl-tiny", True), ("jdrl-unet-tiny", False)]
)
def test_the_plain_recipe_tells_too_where_a_map_is_estimated(name: str, lost: bool) -> None:
    one = PlainRecipe(name, build(name), PlainRecipe.paper, Options())
    one.go_without("folder", has_map=False)
    assert ("the estimator learnt from no true map" in one.remark) == lost


@pytest.mark.parametrize("model", ["didanet", "sftnet"])
def test_a_third_stage_needs_an_estimator_that_was_trained(model: str) -> None:
    name = f"{model}-tiny"
    net = build(name)
    kind = recipe_of(name, net)
    one = kind(name, net, kind.paper, Options())
    one.go_without("folder", has_map=True)
    with pytest.raises(UsageError, match=r"folder: no maps, and stage 3 .*--stages 1,2"):
        one.go_without("folder", has_map=False)
    # alone it comes after --init
    kind(name, net, replace(kind.paper, epochs=(0, 0, 1)), Options()).go_without(
        "folder", has_map=False
    )


def test_what_learns_nothing_from_maps_misses_none() -> None:
    net = build("didanet-tiny")
    kind = recipe_of("didanet-tiny", net)
    plan = replace(kind.paper, epochs=(1, 1, 0))
    for options in (Options(auxiliary=False), Options(guidance=False)):
        one = kind("didanet-tiny", net, plan, options)
        one.go_without("folder", has_map=False)
        assert not one.remark


@pytest.mark.parametrize("model", ["didanet", "sftnet", "jdrl-unet", "defocusgan", "dualpixel-map"])
def test_the_papers_deblurrers_need_sharp_pictures(model: str) -> None:
    net = build(f"{model}-tiny")
    kind = recipe_of(f"{model}-tiny", net)
    one = kind(f"{model}-tiny", net, kind.paper, Options())
    with pytest.raises(UsageError, match="no sharp pictures"):
        one.check_data("folder", has_map=True, has_sharp=False)


def test_apl_takes_data_without_sharp_pictures(caplog: pytest.LogCaptureFixture) -> None:
    net = build("apl-tiny")
    kind = recipe_of("apl-tiny", net)
    one = kind("apl-tiny", net, kind.paper, Options())
    one.check_data("folder", has_map=False, has_sharp=False)
    assert "folder: no sharp pictures" in caplog.text
