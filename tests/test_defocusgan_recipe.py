"""DefocusGAN's recipe: what guides, who learns from what, and VGG19's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from allfocus.runtime.errors import CheckpointError
from allfocus.train import losses
from allfocus.train.data import Batch, PhotoSamples
from allfocus.train.models import build
from allfocus.train.perceptual import Perceptual, _layer
from allfocus.train.recipe import Options
from allfocus.train.recipes.defocusgan import DefocusGanRecipe
from allfocus.train.synthetic import Recipe as Drawn

PLAN = replace(DefocusGanRecipe.paper, total=12)  # 2 steps of stage 1


def batch() -> Batch:
    blurry, sharp = torch.rand(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return Batch(blurry, sharp, torch.full((1, 1, 32, 32), 0.5), True)


def recipe(**options: object) -> DefocusGanRecipe:
    name = "defocusgan-tiny"
    return DefocusGanRecipe(name, build(name), PLAN, Options(**options))  # type: ignore[arg-type]


def test_the_papers_annealing_takes_20000_iterations() -> None:
    assert DefocusGanRecipe.paper.stage_steps(1) == pytest.approx(20_000, abs=2)


def test_radii_of_every_branch_are_drawn() -> None:
    one = recipe()
    assert (one.blur, one.max_radius) == (12.5, 25.0)
    samples = PhotoSamples([], 32, 0, Drawn(max_radius=one.blur, beyond_radius=2 * one.blur))
    radii = np.concatenate([samples[i].radius.ravel() for i in range(60)])
    edges = (0.0, *one.net.config.bounds, one.max_radius)
    counted, _ = np.histogram(radii[radii > 0], edges)
    assert (counted / counted.sum() > 0.08).all()


def test_guidance_fades_over_stage_1() -> None:
    assert [recipe().guidance(step) for step in (0, 1, 2, 11)] == [1, 0.5, 0, 0]
    assert recipe(mask=False).guidance(0) == 0


def test_a_new_generator_returns_its_input_so_its_content_loss_is_known() -> None:
    data = batch()
    parts = recipe().losses(5, data, "generator")
    assert parts["content"].item() == pytest.approx(losses.absolute(data.blurry, data.sharp).item())
    assert set(parts) == {"content", "adversarial"}


def test_the_critics_turn_comes_first_and_leaves_the_generator_alone() -> None:
    one = recipe()
    assert one.turns(0) == ("critic", "generator")
    sum(one.losses(0, batch(), "critic").values(), torch.zeros(())).backward()
    assert all(p.grad is None for p in one.net.parameters())
    assert all(p.grad is not None for p in one.critic.parameters() if p.dim() > 1)


def test_the_perceptual_loss_reads_torchvisions_file(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {
        f"features.{place}.{kind}": torch.randn(value.shape, generator=generator) * 0.05
        for place in range(15)
        for kind, value in _layer(place).state_dict().items()
    }
    torch.save({**state, "classifier.0.bias": torch.zeros(1)}, tmp_path / "vgg19.pth")
    loss = Perceptual(tmp_path / "vgg19.pth")
    pictures = torch.rand(2, 1, 3, 16, 16, generator=generator)
    assert loss(pictures[0], pictures[0]).item() == 0
    assert loss(pictures[0], pictures[1]).item() > 0
    one = recipe(vgg=str(tmp_path / "vgg19.pth"))
    assert "perceptual" in one.losses(5, batch(), "generator")
    torch.save({}, tmp_path / "other.pth")
    for name, said in (("other.pth", "not torchvision's VGG19"), ("none.pth", "no such file")):
        with pytest.raises(CheckpointError, match=said):
            Perceptual(tmp_path / name)
