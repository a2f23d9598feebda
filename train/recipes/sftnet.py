"""The three stages of spatial modulation by the defocus map (Ye et al., section 3.4).

Stages 1 and 2 as DID-ANet's, with absolute differences; stage 3 adds the pixels' weights. There it
leaves the estimator as it is, which is DID-ANet's way; this paper says only that the network is
fine-tuned. The paper's ‖·‖₂ of eq. 5 is read as the mean of squares, as in DID-ANet,
which it refers to. Its weights are of the true map (eq. 6); of the estimated one where the data
has none.
"""

from __future__ import annotations

from torch import Tensor

from allfocus.train import losses
from allfocus.train.data import Batch
from allfocus.train.models.base import Net
from allfocus.train.models.sftnet import SftNet
from allfocus.train.recipe import NO_MAP, Options, Plan, Recipe, adam
from allfocus.train.recipes.didanet import check_third_stage

MAP, DEBLUR, WEIGHTED = 0.2, 0.9, 0.1  # the paper's lambda 1, 2, 3


class SftnetRecipe(Recipe):
    """See the module's text."""

    paper = Plan()
    parts = ("deblur", "map", "weighted")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        assert isinstance(net, SftNet)
        self.net = net
        self.optimizers = {"net": adam(net.parameters(), plan.learning_rate)}
        self.without_maps = NO_MAP

    def go_without(self, name: str, *, has_map: bool) -> None:
        """See Recipe."""
        check_third_stage(name, self.plan, has_map=has_map)
        super().go_without(name, has_map=has_map)

    def prepare(self, step: int) -> None:
        """See Recipe."""
        self.net.estimator.requires_grad_(self.stage(step) < 3)

    def finish(self) -> None:
        """See Recipe."""
        self.net.estimator.requires_grad_(True)

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:  # noqa: ARG002
        """See Recipe."""
        return parts(self.net, batch, self.stage(step))


def parts(net: SftNet, batch: Batch, stage: int) -> dict[str, Tensor]:
    """The stage's weighted losses on a batch; without maps as in DID-ANet's recipe."""
    estimated: Tensor = net.estimator(batch.blurry)
    guide = batch.defocus if stage == 1 and batch.has_map else estimated
    deblurred: Tensor = net.restorer(batch.blurry, guide)
    found = {"deblur": DEBLUR * losses.absolute(deblurred, batch.sharp)}
    if stage < 3 and batch.has_map:
        found["map"] = MAP * losses.map_loss(estimated, batch.defocus)
    if stage == 3:
        weight = losses.defocus_weight(batch.defocus if batch.has_map else estimated, 0.0)
        found["weighted"] = WEIGHTED * losses.weighted_deblur_loss(deblurred, batch.sharp, weight)
    return found
