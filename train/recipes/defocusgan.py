"""DefocusGAN (Zhai et al., AAAI 2023): masks that guide the branches and fade, and a critic.

    L1 + 0.012 perceptual + 0.002 adversarial    (eq. 8)

In stage 1 the defocus map's masks guide the branches, by less and less: 15 epochs, which are the
paper's 20,000 iterations of 4 crops. Stage 2 goes on without. The map is the data's; the paper has
that of its map net, which `dualpixel-map`'s recipe trains. The critic takes one step a generator's
step: the paper names no number. The perceptual loss needs VGG19's weights (`vgg`), and is left out
without them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from allfocus.train import adversary, losses
from allfocus.train.data import Batch
from allfocus.train.models import discriminators
from allfocus.train.models.base import Net
from allfocus.train.models.defocusgan import DefocusGan, mask_weight
from allfocus.train.models.discriminators import PatchDiscriminator
from allfocus.train.models.guided_blocks import MAX_RADIUS
from allfocus.train.perceptual import Perceptual
from allfocus.train.recipe import Options, Plan, Recipe, adam

PERCEPTUAL, ADVERSARIAL = 0.012, 0.002  # the paper's alpha and beta


class DefocusGanRecipe(Recipe):
    """See the module's text. Without `mask` nothing guides the branches, without `adversary` there
    is no critic.
    """

    paper = Plan(
        batch=4,
        crop=512,
        learning_rate=2e-4,
        schedule="halving",
        halve=30,
        stages=2,
        epochs=(15, 75),
        epoch_samples=5333,  # 20,000 iterations of 4 crops are its 15 epochs
    )
    knows = frozenset({"mask", "adversary", "vgg"})
    parts = ("content", "perceptual", "adversarial", "critic", "penalty")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        assert isinstance(net, DefocusGan)
        self.net = net
        self.max_radius = MAX_RADIUS
        # The last branch's range begins at 14 pixels. Of radii drawn under 8, and a share up to 16,
        # it would hardly see one; so they are drawn under 12.5, and a share up to 25.
        self.blur = MAX_RADIUS / 2
        self.perceptual = Perceptual(Path(options.vgg)) if options.vgg else None
        self.remark = "" if options.vgg else "without the perceptual loss"
        if options.mask:
            self.without_maps = "no masks guided the branches"
        if options.adversary:
            width = net.config.features[0]
            config = discriminators.Config(features=(2 * width, 4 * width))
            self.helpers["critic"] = self.critic = PatchDiscriminator(config)
            self.optimizers["critic"] = adam(self.critic.parameters(), plan.learning_rate)
        self.optimizers["generator"] = adam(net.parameters(), plan.learning_rate)

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:
        """See Recipe."""
        if turn == "critic":
            with torch.no_grad():
                fake = self._deblur(step, batch)
            return self._critics(batch, fake)
        return self._generators(batch, self._deblur(step, batch))

    def guidance(self, step: int) -> float:
        """How much the masks weigh at `step`: from 1 to 0 over stage 1."""
        if not self.options.mask or self.stage(step) > 1:
            return 0.0
        return mask_weight(step, self.plan.stage_steps(1))

    def _deblur(self, step: int, batch: Batch) -> Tensor:
        weight = self.guidance(step) if batch.has_map else 0.0
        return self.net.guided(batch.blurry, batch.defocus, weight)

    def _weight(self, batch: Batch) -> Tensor:
        """Of the critic's patches; alike where the data has no maps."""
        weight = adversary.patch_weight(batch.defocus, self.critic.stride)
        return weight if batch.has_map else torch.ones_like(weight)

    def _critics(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        weight = self._weight(batch)
        penalty = adversary.gradient_penalty(self.critic, batch.sharp, fake, weight)
        return {
            "critic": adversary.critic_loss(self.critic, batch.sharp, fake, weight),
            "penalty": adversary.PENALTY * penalty,
        }

    def _generators(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        found = {"content": losses.absolute(fake, batch.sharp)}
        if self.perceptual:
            self.perceptual.to(fake.device)
            found["perceptual"] = PERCEPTUAL * self.perceptual(fake, batch.sharp)
        if self.options.adversary:
            scores = adversary.score(self.critic, fake, self._weight(batch))
            found["adversarial"] = -ADVERSARIAL * scores.mean()
        return found
