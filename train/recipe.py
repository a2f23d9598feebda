"""DID-ANet's three stages (Ma et al. 2021, sections III-B, III-C and IV-A) as a schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.train import losses
from allfocus.train.data import Batch
from allfocus.train.models.didanet import DidANet

EPOCHS = (400, 200, 400)  # of stages 1, 2, 3
EPOCH_SAMPLES = 1012  # the size of the paper's training set: an epoch, whatever the data
MAP, DEBLUR, REEVALUATION = 0.1, 0.9, 0.2  # the paper's lambda 1, 2, 3


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, in which order and for how long. The defaults are the paper's.

    `scale` multiplies the `epochs` of all three stages. `offset` is W0 of eq. 4. `depths`: blocks
    of the deblurrer that stage 1 runs with, in equal shares of its steps; empty: all. It saves
    time on small machines, and since new blocks start as the identity, switching them on changes
    no output.
    """

    batch: int = 16
    crop: int = 256
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0  # steps over which the learning rate rises from zero
    epochs: tuple[int, ...] = EPOCHS
    scale: float = 1.0
    offset: float = 1 / 9
    depths: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch", "crop", "learning_rate", "scale"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if any(depth < 1 for depth in self.depths):
            raise UsageError(f"depths: expected at least 1 block, got {self.depths}")
        if len(self.epochs) != len(EPOCHS):
            raise UsageError(f"epochs: expected one number for each of 3 stages, got {self.epochs}")

    def stage_steps(self, stage: int) -> int:
        """Steps of a stage (1, 2 or 3); a stage of 0 epochs is left out."""
        steps = round(self.epochs[stage - 1] * self.scale * EPOCH_SAMPLES / self.batch)
        return max(1, steps) if self.epochs[stage - 1] else 0

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(self.stage_steps(s) for s in (1, 2, 3))

    def stage(self, step: int) -> int:
        """The stage that `step`, counted from 0, belongs to."""
        first = self.stage_steps(1)
        if step < first:
            return 1
        return 2 if step < first + self.stage_steps(2) else 3

    def depth(self, step: int, blocks: int) -> int:
        """Blocks of the deblurrer in use at `step`, of `blocks` in all."""
        if not self.depths or self.stage(step) > 1:
            return blocks
        share = step * len(self.depths) // self.stage_steps(1)
        return min(blocks, self.depths[share])

    def rate(self, step: int) -> float:
        """Learning rate at `step`."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "constant":
            return self.learning_rate * rise
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * rise * max(fall, 0.01)


def loss(net: DidANet, batch: Batch, stage: int, offset: float) -> tuple[Tensor, dict[str, float]]:
    """The stage's loss on a batch, and its parts for the log.

    Stage 1 feeds the deblurrer the true map, stages 2 and 3 the estimated one; stage 3 leaves the
    estimator as it is and asks it whether the output still looks blurred (eq. 5). Where the data
    has no maps, stage 1 feeds the estimated map too and the map loss is left out.
    """
    estimated = net.estimate(batch.blurry)
    guide = batch.defocus if stage == 1 and batch.has_map else estimated
    deblurred = net.restore(batch.blurry, guide)
    weight = losses.defocus_weight(estimated, offset)
    parts = {"deblur": DEBLUR * losses.weighted_deblur_loss(deblurred, batch.sharp, weight)}
    if stage < 3 and batch.has_map:
        parts["map"] = MAP * losses.map_loss(estimated, batch.defocus)
    if stage == 3:
        parts["reevaluation"] = REEVALUATION * losses.reevaluation_loss(
            net.estimate(deblurred), net.estimate(batch.sharp)
        )
    total = sum(parts.values(), start=deblurred.new_zeros(()))
    return total, {name: float(part.detach()) for name, part in parts.items()}
