"""APL (Zhao et al., ECCV 2022): detection and deblurring promote each other, without any truth.

Stage 1 trains the deblurring generator G_sr on simulated pairs: part of a sharp picture is blurred
by a Gaussian, and the map is known. Then the detector G_ws (stages 2, 4, 6) and G_sr (3, 5, 7)
learn by turns to make a discriminator D take their picture for one that is clear all over (eq. 6),
and G_ws also keeps near a blur prior (eq. 7).

The paper's log(1 - D) is replaced by -log D, which has the same optimum and does not vanish where D
is sure (Goodfellow et al. 2014). Stage 1's 100 epochs are of 2,500 pairs, the others' of the 604
pictures of CUHK; counted in the latter, stage 1 has 414.

The paper resizes pictures to 160x160; here crops of that size are taken, so that blur keeps its
radius. Its clear pictures, which D learns from, are of other scenes than the blurry ones; here they
are the batch's own sharp ones, which D never sees side by side with what it judges.

With `labels` the stages after the first also use what synthetic data knows: G_sr the sharp picture,
and G_ws the true mask instead of the prior. `apl-detect` alone learns from the prior, or from true
masks with `labels`.
"""

from __future__ import annotations

import logging
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.runtime.errors import UsageError
from allfocus.train import adversary, losses
from allfocus.train.data import Batch
from allfocus.train.lbp_prior import focus_prior
from allfocus.train.models import apl, apl_detect
from allfocus.train.models.apl import Apl
from allfocus.train.models.apl_detect import AplDetect
from allfocus.train.models.apl_discriminator import Config, Discriminator
from allfocus.train.models.base import Net
from allfocus.train.recipe import Options, Plan, Recipe, adam, in_focus

SHARE = (0.6, 0.7)  # of a simulated picture that is blurred
SIGMA = (0.1, 10.0)  # pixels
_LOG = logging.getLogger("allfocus.train")
_WINDOW = 15  # side of the Gaussian's, pixels


class AplRecipe(Recipe):
    """See the module's text."""

    paper = Plan(
        batch=1,
        crop=160,
        learning_rate=2e-4,
        stages=7,
        epochs=(414, 100, 100, 100, 100, 100, 100),
        epoch_samples=604,
    )
    knows = frozenset({"labels"})
    parts = ("pretrain", "adversarial", "prior", "focus", "deblur", "real", "fake")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        assert isinstance(net, Apl)
        self.name, self.net = name, net
        self.needs_maps, self.needs_sharp = options.labels, False
        self.one_side = True  # the judge's last layer is as large as what it looks at
        self.losses_judge = False  # they are lowest where the judge has learnt least
        self.helpers["judge"] = self.judge = Discriminator(_judge(plan.crop, net.config))
        nets = {"judge": self.judge, "detector": net.detector, "restorer": net.restorer}
        self.optimizers = {n: adam(m.parameters(), plan.learning_rate) for n, m in nets.items()}

    def check_data(
        self, name: str, *, has_map: bool, has_sharp: bool, has_views: bool = False
    ) -> None:
        """See Recipe. Without sharp pictures it only warns: APL is meant for data without truth."""
        super().check_data(name, has_map=has_map, has_sharp=has_sharp, has_views=has_views)
        if not has_sharp:
            _LOG.warning(
                "%s: no sharp pictures; the blurry ones stand in for them, which teaches the "
                "deblurrer little. Add sharp photos, or train apl-detect",
                name,
            )

    @property
    def saved(self) -> dict[str, Net]:
        """See Recipe: the detector too, where it is registered by itself."""
        twin = self.name.replace("apl", "apl-detect")
        if apl_detect.CONFIGS.get(twin) != apl.CONFIGS[self.name].detect:
            return self.nets
        return {**self.nets, twin: self.net.detector}

    def turns(self, step: int) -> tuple[str, ...]:
        """See Recipe."""
        stage = self.stage(step)
        if stage == 1:
            return ("restorer",)
        return ("judge", "restorer" if stage % 2 else "detector")

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:
        """See Recipe."""
        if self.stage(step) == 1:
            blurry, focus = simulate(batch.sharp)
            context = self.net.restorer.context(blurry, focus)
            deblurred = self.net.restore(blurry, focus, context)
            return {"pretrain": losses.absolute(deblurred, batch.sharp)}
        if turn == "judge":
            with torch.no_grad():
                fake, _ = self.net(batch.blurry)
            real = adversary.says(self.judge(batch.sharp), 1.0)
            return {"real": real, "fake": adversary.says(self.judge(fake), 0.0)}
        fake, focus = self.net(batch.blurry)
        found = {"adversarial": adversary.says(self.judge(fake), 1.0)}
        if turn == "detector":
            found |= detection(focus, batch, labels=self.options.labels, radius=self.max_radius)
        elif self.options.labels:
            found["deblur"] = losses.absolute(fake, batch.sharp)
        return found


class DetectRecipe(Recipe):
    """The detector alone: the paper's ablation "single G_ws", whose length it does not tell; here
    as long as for both."""

    paper = Plan(batch=1, crop=160, learning_rate=2e-4, stages=1, epochs=(300,), epoch_samples=604)
    knows = frozenset({"labels"})
    parts = ("prior", "focus")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        assert isinstance(net, AplDetect)
        self.net = net
        self.needs_maps, self.needs_sharp = options.labels, False
        self.optimizers = {"net": adam(net.parameters(), plan.learning_rate)}

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:  # noqa: ARG002
        """See Recipe."""
        focus = self.net(batch.blurry)
        return detection(focus, batch, labels=self.options.labels, radius=self.max_radius)


def detection(focus: Tensor, batch: Batch, *, labels: bool, radius: float) -> dict[str, Tensor]:
    """What a map [N, 1, H, W] is compared with: the prior (eq. 7), or the true mask.

    `radius` is that of the batch's map at 1, in pixels.
    """
    if not labels:
        return {"prior": losses.absolute(focus, focus_prior(batch.blurry))}
    if not batch.has_map:
        raise UsageError("--labels: this data has no maps to take masks from; leave it out")
    return {"focus": losses.cross_entropy(focus, in_focus(batch, radius))}


def simulate(sharp: Tensor) -> tuple[Tensor, Tensor]:
    """Simulated pairs from sharp pictures [N, 3, H, W]: (blurry, focus [N, 1, H, W]).

    In each, what lies on one side of a random line, 60 to 70 % of it, is blurred by a Gaussian of
    15x15 pixels with a sigma of 0.1 to 10. The paper leaves the part's form open.
    """
    with torch.autocast(sharp.device.type, enabled=False):  # data, not a net
        blurred = torch.cat([_gaussian(one[None], _uniform(*SIGMA)) for one in sharp])
    focus = torch.stack([_beside_a_line(one, _uniform(*SHARE)) for one in sharp])
    return focus * sharp + (1 - focus) * blurred, focus


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _gaussian(picture: Tensor, sigma: float) -> Tensor:
    """[1, 3, H, W] -> same; beyond its border the picture goes on as it ends there."""
    reach = _WINDOW // 2
    steps = torch.arange(-reach, reach + 1, device=picture.device, dtype=picture.dtype)
    line = torch.softmax(-0.5 * (steps / sigma).square(), 0)
    padded = F.pad(picture, (reach,) * 4, mode="replicate")
    rows = F.conv2d(padded, line.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)
    return F.conv2d(rows, line.view(1, 1, -1, 1).expand(3, 1, -1, 1), groups=3)


def _beside_a_line(picture: Tensor, share: float) -> Tensor:
    """[3, H, W] -> [1, H, W]: 0 on one side of a line, so many of the pixels, 1 on the other."""
    height, width = picture.shape[1:]
    angle = _uniform(0, 2 * math.pi)
    y = torch.arange(height, dtype=torch.float32).view(-1, 1)
    x = torch.arange(width, dtype=torch.float32)
    distance = math.cos(angle) * x + math.sin(angle) * y
    return (distance > distance.flatten().quantile(share)).to(picture)[None]


def _judge(side: int, config: apl.Config) -> Config:
    """The discriminator for crops of this side, as wide as the detector's first blocks."""
    try:
        return Config(side=side, widths=config.widths[:3], convs=config.convs[:3])
    except ValueError as error:
        raise UsageError(f"--crop: the discriminator takes no such pictures: {error}") from None
