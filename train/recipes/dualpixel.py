"""The map net of dual-pixel views (Zhai et al., AAAI 2023), without true maps.

The map blurs the all-in-focus picture by learnable kernels (`blur_kernels`), which must give the
blurry one. Net and kernels learn by turns: the net for 10 epochs, then each for 5, up to 30.

The map net has 25 pixels at map value 1. Radii drawn on synthetic data lie under half of that, and
a share of them over it, up to 25.
"""

from __future__ import annotations

import torch
from torch import Tensor

from allfocus.train import blur_kernels
from allfocus.train.blur_kernels import BlurKernels, geometric_loss, map_objective
from allfocus.train.data import Batch
from allfocus.train.models.base import Net
from allfocus.train.recipe import Options, Plan, Recipe, adam


class DualPixelRecipe(Recipe):
    """See the module's text. Odd stages train the map net, even ones the kernels."""

    paper = Plan(
        batch=4,
        crop=512,
        learning_rate=2e-5,
        stages=5,
        epochs=(10, 5, 5, 5, 5),
        epoch_samples=5333,  # as many as DefocusGAN's
    )
    parts = ("geometric", "roughness")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        self.net, self.views = net, True
        self.blur = self.max_radius / 2
        config = blur_kernels.Config(max_radius=int(self.max_radius))
        self.helpers["kernels"] = self.kernels = BlurKernels(config)
        self.optimizers = {
            "map": adam(net.parameters(), plan.learning_rate),
            "kernels": adam(self.kernels.parameters(), plan.learning_rate),
        }

    def turns(self, step: int) -> tuple[str, ...]:
        """See Recipe."""
        return ("map",) if self.stage(step) % 2 else ("kernels",)

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:  # noqa: ARG002
        """Eq. 5 for the map net, eq. 2 for the kernels."""
        assert batch.left is not None, "what has no views was refused"
        assert batch.right is not None
        with torch.set_grad_enabled(turn == "map" and torch.is_grad_enabled()):
            radius = self.max_radius * self.net(batch.left, batch.right).float()
        with torch.autocast(radius.device.type, enabled=False):  # Fourier transforms need float32
            reblurred = self.kernels(batch.sharp, radius)
            if turn == "map":
                return map_objective(reblurred, batch.blurry, radius)
            return {"geometric": geometric_loss(reblurred, batch.blurry)}
