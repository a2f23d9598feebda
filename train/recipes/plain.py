"""No paper's recipe: what a net gives is compared with the truth, in one stage.

For any net, where pairs are aligned: the pictures by Charbonnier's loss (`loss` l1, l2 instead), a
map of the blur radius by its absolute error, a map of the focus by its cross-entropy with the true
mask. It is what a paper's own recipe has to beat.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.train import losses
from allfocus.train.data import Batch
from allfocus.train.models.apl_detect import AplDetect
from allfocus.train.models.base import Deblurrer, Net
from allfocus.train.models.jdrl_reblur import JdrlReblur
from allfocus.train.recipe import RADIUS, Options, Plan, Recipe, adam, in_focus

MAP = 0.1  # of a map's loss, as in DID-ANet
FOCUS = 0.02  # of the cross-entropy, which is some five times a map's error

_PICTURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "": losses.charbonnier,
    "charbonnier": losses.charbonnier,
    "l1": losses.absolute,
    "l2": losses.squares,
}


class PlainRecipe(Recipe):
    """See the module's text."""

    paper = Plan(
        learning_rate=2e-4, schedule="cosine", warmup=100, stages=1, epochs=(1000,), crop=128
    )
    knows = frozenset({"loss"})
    parts = ("deblur", "map", "focus")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        losses.check_choice(options.loss, *filter(None, _PICTURES))
        if not isinstance(net, Deblurrer | AplDetect | JdrlReblur):
            raise UsageError(f"{name}: the plain recipe has no truth for what it gives")
        self.net = net
        self.optimizers = {"net": adam(net.parameters(), plan.learning_rate)}

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:  # noqa: ARG002
        """See Recipe."""
        return parts(self.net, batch, _PICTURES[self.options.loss])


def parts(net: Net, batch: Batch, compare: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
    """The weighted losses of a deblurring, detecting or reblurring net on a batch."""
    if isinstance(net, JdrlReblur):
        reblurred, _ = net(batch.sharp, batch.blurry)
        return {"deblur": compare(reblurred, batch.blurry)}
    if isinstance(net, AplDetect):
        return {"focus": losses.focus_loss(net(batch.blurry), in_focus(batch, RADIUS))}
    sharp, seen = net(batch.blurry)
    found = {"deblur": compare(sharp, batch.sharp)}
    if seen is not None and batch.has_map:
        if net.max_radius:
            found["map"] = MAP * losses.map_loss(seen, batch.defocus)
        else:
            found["focus"] = FOCUS * losses.focus_loss(seen, in_focus(batch, RADIUS))
    return found
