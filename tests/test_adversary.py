"""Adversarial losses on critics whose scores are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from allfocus.train import adversary

WEIGHT = torch.tensor([0.5, 1.5]).view(1, 1, 1, 2)
REAL, FAKE = torch.full((1, 3, 8, 16), 0.75), torch.full((1, 3, 8, 16), 0.25)


def means(pictures: Tensor) -> Tensor:
    """Twice the mean of each square of 8x8 pixels and 3 channels."""
    return 2 * torch.nn.functional.avg_pool2d(pictures, 8).mean(1, keepdim=True)


def test_a_patch_weighs_as_its_part_of_the_map() -> None:
    defocus = torch.zeros(1, 1, 8, 16)
    defocus[..., 8:] = 0.5
    assert adversary.patch_weight(defocus, 8).flatten().tolist() == [0, 2]
    assert not adversary.patch_weight(torch.zeros(1, 1, 8, 8), 8).any()


def test_scores_are_weighted_and_compared() -> None:
    left = torch.zeros(1, 3, 8, 16)
    left[..., :8] = 1
    assert adversary.score(means, left, WEIGHT).item() == pytest.approx(0.5 * 2 / 2)
    assert adversary.critic_loss(means, REAL, FAKE, WEIGHT).item() == pytest.approx(0.5 - 1.5)


def test_the_penalty_is_the_slopes_distance_from_1() -> None:
    # a square's score weighs w/2; its slope is w / 192 at each of 192 values
    slope = math.sqrt(192 * ((0.5 / 192) ** 2 + (1.5 / 192) ** 2))
    value = adversary.gradient_penalty(means, REAL, FAKE, WEIGHT).item()
    assert value == pytest.approx((slope - 1) ** 2, rel=1e-5)


def test_the_penalty_has_a_finite_gradient_where_nothing_weighs() -> None:
    gain = torch.ones((), requires_grad=True)
    nothing = torch.zeros_like(WEIGHT)
    adversary.gradient_penalty(lambda p: gain * means(p), REAL, FAKE, nothing).backward()  # type: ignore[no-untyped-call]
    assert gain.grad is not None
    assert gain.grad.item() == 0


def test_a_judge_is_held_to_an_answer() -> None:
    logits = torch.tensor([[0.0], [math.log(3.0)]])
    assert adversary.says(logits, 1.0).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert adversary.says(logits, 0.0).item() == pytest.approx((math.log(2) + math.log(4)) / 2)
