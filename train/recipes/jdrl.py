"""Joint deblurring and reblurring (Li et al., AAAI 2023): for sharp pictures out of place.

The truth is deformed towards the output, by optical flow, before they are compared, and the output
towards the truth (eq. 5). That alone would let the output drift: so a second net blurs it again,
isotropically, which must give the blurry picture in its place (eq. 10). At first the output is too
poor for a flow; it is then taken between the truth and the blurry picture (stage 1).

An epoch is the 4,830 patches of 512x512 that the paper resizes and crops its data set's 115
training pairs into. It does not say the batch: 4. On synthetic pairs, which are aligned unless
`misaligned` is asked for, the flow finds little but noise; the plain recipe then does as well.
"""

from __future__ import annotations

from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.train import losses
from allfocus.train.data import Batch
from allfocus.train.dense_flow import LEAST
from allfocus.train.flow import Flow, deformed_loss, dis_flow
from allfocus.train.models import build
from allfocus.train.models.base import Net
from allfocus.train.recipe import Options, Plan, Recipe, adam

REBLUR = 0.5  # the paper's alpha


class JdrlRecipe(Recipe):
    """Trains the deblurring net and a reblurring net (`jdrl-reblur`, `-tiny` with a tiny one).

    Options: `misaligned` draws displaced sharp pictures; without `cycle` the output is not deformed
    towards the truth, without `mask` any flow is trusted, without `reblur` there is no second net.
    """

    paper = Plan(
        batch=4,
        crop=512,
        learning_rate=2e-5,
        schedule="halving",
        halve=60,
        stages=2,
        epochs=(15, 85),
        epoch_samples=4830,  # the patches of its training set
    )
    knows = frozenset({"cycle", "mask", "reblur", "misaligned"})
    parts = ("deblur", "cycle", "reblur")

    def __init__(
        self, name: str, net: Net, plan: Plan, options: Options, flow: Flow = dis_flow
    ) -> None:
        super().__init__(name, net, plan, options)
        if plan.crop < LEAST:
            raise UsageError(
                f"crop: expected at least {LEAST} pixels, which the optical flow takes, got "
                f"{plan.crop}; give --crop {LEAST}"
            )
        self.net, self.flow = net, flow
        self.misaligned, self.displaced = options.misaligned, True
        if options.reblur:
            second = "jdrl-reblur-tiny" if name.endswith("-tiny") else "jdrl-reblur"
            self.nets[second] = self.reblur = build(second)
        parameters = [p for n in self.nets.values() for p in n.parameters()]
        self.optimizers = {"nets": adam(parameters, plan.learning_rate)}

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:  # noqa: ARG002
        """See Recipe."""
        truth = self._truth(batch)
        output: Tensor = self.net(batch.blurry)[0]
        like = batch.blurry if self.stage(step) == 1 else output
        there = self.flow(truth, like)
        found = {"deblur": deformed_loss(truth, output, there, mask=self.options.mask)}
        if self.options.cycle:
            back = self.flow(like, truth)
            found["cycle"] = deformed_loss(output, truth, back, mask=self.options.mask)
        if self.options.reblur:
            reblurred, _ = self.reblur(output.float(), batch.blurry)
            found["reblur"] = REBLUR * losses.charbonnier(reblurred, batch.blurry)
        return found

    def _truth(self, batch: Batch) -> Tensor:
        """The sharp pictures, out of place where that was asked for."""
        if not self.options.misaligned:
            return batch.sharp
        if batch.moved is None:
            raise UsageError(
                "--misaligned: this data has no displaced pictures; pairs of a folder are taken as "
                "they are, leave it out"
            )
        return batch.moved
