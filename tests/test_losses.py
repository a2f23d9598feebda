"""The paper's equations on numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from allfocus.train import losses


def maps(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 1, 1, len(values))


def test_map_loss_is_the_mean_absolute_error() -> None:
    assert losses.map_loss(maps(0.0, 0.5), maps(0.5, 0.5)).item() == pytest.approx(0.25)


def test_weight_is_the_map_over_its_mean_plus_an_offset() -> None:
    weight = losses.defocus_weight(maps(0.25, 0.75), 1 / 9)
    assert weight.flatten().tolist() == pytest.approx([0.5 + 1 / 9, 1.5 + 1 / 9])


def test_the_mean_is_taken_over_each_image() -> None:
    pair = torch.cat((maps(0.2, 0.2), maps(0.2, 0.6)))
    weight = losses.defocus_weight(pair, 0.0)
    assert weight[:, 0, 0].tolist() == [pytest.approx([1, 1]), pytest.approx([0.5, 1.5])]


def test_a_crop_in_focus_weighs_the_offset_alone() -> None:
    assert losses.defocus_weight(maps(0.0, -0.1), 0.5).flatten().tolist() == [0.5, 0.5]


def test_no_gradient_reaches_the_estimator_through_the_weight() -> None:
    estimated = maps(0.2, 0.4).requires_grad_()
    assert not losses.defocus_weight(estimated, 0.1).requires_grad


def test_weighted_loss_squares_weight_and_error() -> None:
    value = losses.weighted_deblur_loss(maps(0.5, 0.0), maps(0.0, 0.0), maps(2.0, 1.0))
    assert value.item() == pytest.approx(0.5)


def test_reevaluation_compares_two_maps() -> None:
    assert losses.reevaluation_loss(maps(0.3, 0.1), maps(0.1, 0.1)).item() == pytest.approx(0.1)


def test_pictures_are_compared_by_absolutes_or_squares() -> None:
    given, wanted = maps(0.5, 0.0), maps(0.1, 0.2)
    assert losses.absolute(given, wanted).item() == pytest.approx(0.3)
    assert losses.squares(given, wanted).item() == pytest.approx((0.16 + 0.04) / 2)


def test_charbonnier_rounds_the_corner_and_obeys_its_mask() -> None:
    given, wanted = maps(0.004, 0.75), maps(0.001, 0.0)
    rounded = (0.003**2 + 1e-6) ** 0.5
    far = (0.75**2 + 1e-6) ** 0.5
    assert losses.charbonnier(given, wanted).item() == pytest.approx((rounded + far) / 2)
    masked = losses.charbonnier(given, wanted, maps(1.0, 0.0)).item()
    assert masked == pytest.approx((rounded + 1e-3) / 2)


def test_focus_loss_is_the_cross_entropy_and_finite() -> None:
    value = losses.cross_entropy(maps(0.25, 0.5), maps(1.0, 0.0)).item()
    assert value == pytest.approx(math.log(4) / 2 + math.log(2) / 2)
    assert losses.cross_entropy(maps(0.0), maps(1.0)).item() == 100


def test_at_one_radius_the_focus_is_the_cross_entropy_at_every_edge() -> None:
    """At odds of 1 and a radius of 1.5 pixels: the odds at an edge are its square over 0.5's."""
    odds = [1.0, 4.0, 16.0, 64.0]  # of lying under 0.5, 1, 2 and 4 pixels
    truth = [False, False, True, True]
    each = [
        math.log(1 + 1 / o) if under else math.log(1 + o)
        for o, under in zip(odds, truth, strict=True)
    ]
    value = losses.by_edges(maps(0.5), maps(1.5)).item()
    assert value == pytest.approx((each[0] + sum(each) / 4) / 2)


def test_the_focus_that_is_best_falls_as_the_radius_grows() -> None:
    """Also between 1 and 8 pixels, which a mask of half a pixel calls alike."""
    levels = torch.linspace(0.001, 0.999, 999)
    best = []
    for radius in (0.2, 0.7, 1.5, 3.0, 8.0):
        found = [losses.by_edges(maps(float(p)), maps(radius)).item() for p in levels]
        best.append(float(levels[found.index(min(found))]))
    assert best == sorted(set(best), reverse=True)


@pytest.mark.parametrize("given", [0.0, 1.0])
def test_a_focus_that_is_surely_wrong_costs_a_finite_sum(given: float) -> None:
    wrong = maps(9.0 if given else 0.0)
    estimated = maps(given).requires_grad_()
    value = losses.by_edges(estimated, wrong)
    value.backward()  # type: ignore[no-untyped-call]
    assert 5 < value.item() < 30
    assert estimated.grad is not None
    assert torch.isfinite(estimated.grad).all()


def test_psnr_is_the_mean_over_crops_of_decibels() -> None:
    wanted = torch.zeros(2, 3, 4, 4)
    given = torch.stack([torch.full((3, 4, 4), 0.5), torch.full((3, 4, 4), 0.1)])
    floor = losses.FLOOR
    each = [10 * math.log10(error + floor) / 200 for error in (0.25, 0.01)]
    assert float(losses.psnr(given, wanted)) == pytest.approx(sum(each) / 2)
    lowest = 10 * math.log10(floor) / 200
    assert float(losses.psnr(wanted, wanted)) == pytest.approx(lowest)


def test_what_is_kept_is_judged_by_itself() -> None:
    """The first crop errs by 0.1 in the half that is in focus, and by 1 elsewhere."""
    wanted, focus = torch.zeros(3, 3, 4, 4), torch.zeros(3, 1, 4, 4)
    given = torch.ones(3, 3, 4, 4, requires_grad=True)
    with torch.no_grad():
        given[0, :, :2] = 0.1
        given[1] = 0.2
    focus[0, :, :2], focus[1] = 1, 1  # nothing of the third
    errors = [0.1**2 + losses.KEPT, 0.2**2 + losses.KEPT, losses.KEPT]
    found = losses.kept(given, wanted, focus)
    assert found.item() == pytest.approx(sum(10 * math.log10(e) for e in errors) / 3 / 200)
    found.backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    moved = given.grad.abs().sum((1, 3))
    assert (moved[0, :2] > 0).all()
    assert (moved[0, 2:] == 0).all()
    assert (moved[2] == 0).all()
