"""DID-ANet's three stages (Ma et al. 2021, sections III-B, III-C and IV-A)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from allfocus.runtime.errors import UsageError
from allfocus.train import losses
from allfocus.train.data import Batch
from allfocus.train.models.base import Net
from allfocus.train.models.didanet import DidANet
from allfocus.train.recipe import NO_MAP, Options, Plan, Recipe, adam

MAP, DEBLUR, REEVALUATION = 0.1, 0.9, 0.2  # the paper's lambda 1, 2, 3


class DidanetRecipe(Recipe):
    """Stage 1 feeds the deblurrer the true map, stages 2 and 3 the estimated one; stage 3 leaves
    the estimator as it is. The paper's table III is made of the options: `loss` l2 weighs all
    pixels alike; without `auxiliary` nothing is learnt from true maps; without `guidance` the
    deblurrer gets an empty map, in training and ever after.
    """

    paper = Plan()
    knows = frozenset({"offset", "depths", "loss", "guidance", "auxiliary"})
    parts = ("deblur", "map", "reevaluation")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        losses.check_choice(options.loss, "l2", "wd")
        assert isinstance(net, DidANet)
        if any(depth > net.config.blocks for depth in plan.depths):
            raise UsageError(
                f"depths: {name} has {net.config.blocks} blocks, got {max(plan.depths)}"
            )
        if not options.guidance and options.loss == "wd":
            raise UsageError(
                "loss: wd weighs pixels by the estimated map, which there is none of without "
                "guidance; expected l2, got wd: give --loss l2, or leave out --no-guidance"
            )
        if not options.guidance and net.config.untouched:
            raise UsageError(
                f"guidance: {name} leaves alone what its map calls sharp, so without a map it does "
                "nothing; take didanet or didanet-tiny"
            )
        if not (options.guidance and options.auxiliary) and plan.stage_steps(3):
            raise UsageError("stage 3 asks a trained estimator; leave it out: --stages 1,2")
        self.net = net
        self.optimizers = {"net": adam(net.parameters(), plan.learning_rate)}
        if options.guidance and options.auxiliary:
            self.without_maps = NO_MAP
        if not options.guidance:  # the net's map is what it is trained with: empty
            assert net.estimator.tail.bias is not None
            for parameter in (net.estimator.tail.weight, net.estimator.tail.bias):
                nn.init.zeros_(parameter)

    def go_without(self, name: str, *, has_map: bool) -> None:
        """See Recipe."""
        check_third_stage(name, self.plan, has_map=has_map)
        super().go_without(name, has_map=has_map)

    def prepare(self, step: int) -> None:
        """See Recipe."""
        self.net.estimator.requires_grad_(self.stage(step) < 3 and self.options.guidance)
        self.net.restorer.depth = self.plan.depth(step, self.net.config.blocks)

    def finish(self) -> None:
        """See Recipe."""
        self.net.estimator.requires_grad_(True)
        self.net.restorer.depth = self.net.config.blocks

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:  # noqa: ARG002
        """See Recipe."""
        offset = None if self.options.loss == "l2" else self.plan.offset
        if self.options.guidance and self.options.auxiliary:
            return parts(self.net, batch, self.stage(step), offset)
        if self.options.guidance:
            return parts(self.net, replace(batch, has_map=False), 2, offset)
        empty = torch.zeros_like(batch.defocus)
        error = losses.squares(self.net.restore(batch.blurry, empty), batch.sharp)
        return {"deblur": DEBLUR * error}


def check_third_stage(name: str, plan: Plan, *, has_map: bool) -> None:
    """Refuse a stage 3 that follows on stages without maps, in data called `name`: UsageError.

    It leaves the estimator as it is, and by itself, after `--init`, it may be a trained one.
    """
    if not has_map and plan.stage_steps(3) and (plan.stage_steps(1) or plan.stage_steps(2)):
        raise UsageError(
            f"{name}: no maps, and stage 3 asks a trained estimator; make them by `allfocus data "
            "make-maps`, or leave it out: --stages 1,2"
        )


def parts(net: DidANet, batch: Batch, stage: int, offset: float | None) -> dict[str, Tensor]:
    """The stage's weighted losses on a batch; `offset` None: all pixels weigh the same.

    Stage 3 asks the estimator whether the output still looks blurred (eq. 5). Where the data has no
    maps, stage 1 feeds the estimated map too and the map loss is left out.
    """
    estimated = net.estimate(batch.blurry)
    guide = batch.defocus if stage == 1 and batch.has_map else estimated
    deblurred = net.restore(batch.blurry, guide)
    if offset is None:
        deblur = losses.squares(deblurred, batch.sharp)
    else:
        weight = losses.defocus_weight(estimated, offset)
        deblur = losses.weighted_deblur_loss(deblurred, batch.sharp, weight)
    found = {"deblur": DEBLUR * deblur}
    if stage < 3 and batch.has_map:
        found["map"] = MAP * losses.map_loss(estimated, batch.defocus)
    if stage == 3:
        found["reevaluation"] = REEVALUATION * losses.reevaluation_loss(
            net.estimate(deblurred), net.estimate(batch.sharp)
        )
    return found
