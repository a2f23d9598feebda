"""No paper's recipe: what a net gives is compared with the truth.

For any net, where pairs are aligned: the pictures by Charbonnier's loss (`loss` l1, l2, psnr
instead), a map of the blur radius by its absolute error, a map of the focus by its cross-entropy
with the true mask (a net that gives nothing else: with those of wider radii too). The map of
dual-pixel views, which the paper learns without the truth, is learnt like other maps. It is what a
paper's own recipe has to beat. `--keep WEIGHT` adds the PSNR of what is in focus alone, so that it
stays as it is: the part `keep`, in a column of its own.

`--teacher FILE` distils a better net, of whatever kind (Hinton et al., "Distilling the Knowledge in
a Neural Network", 2015): half of the pictures' loss (`--lesson`) compares with what the teacher
makes of the blurry picture, instead of with the truth, which holds what no small net can know.

Stage 2 is that, and all there is by default. Stage 1 (`--epochs 1,4`: a fifth of the steps) trains
the map of nets that estimate one first, alone, at a tenth of the cost. A map of radii that is
learnt alone goes by its squared error at first: by the absolute one a new net stays at the median
for a thousand steps. That of dual-pixel views ends in a sigmoid and goes by its cross-entropy: by
the absolute error it says 0 everywhere, and stays there. The second half is by the absolute error,
which is what maps are judged by.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import UsageError
from allfocus.train import checkpoint, losses
from allfocus.train.data import Batch
from allfocus.train.models.apl_detect import AplDetect
from allfocus.train.models.base import Deblurrer, Net
from allfocus.train.models.dualpixel_map import DualPixelMap
from allfocus.train.models.jdrl_reblur import JdrlReblur
from allfocus.train.recipe import (
    NO_MAP,
    RADIUS,
    Options,
    Plan,
    Recipe,
    adam,
    check_crop,
    in_focus,
    seen_radius,
)

MAP = 0.1  # of a map's loss, as in DID-ANet
FOCUS = 0.02  # of the cross-entropy, which is some five times a map's error

Compare = Callable[[Tensor, Tensor], dict[str, Tensor]]  # (given, wanted) -> weighted losses

_PICTURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "": losses.charbonnier,
    "charbonnier": losses.charbonnier,
    "l1": losses.absolute,
    "l2": losses.squares,
    "psnr": losses.psnr,
}


class PlainRecipe(Recipe):
    """See the module's text."""

    paper = Plan(
        learning_rate=2e-4, schedule="cosine", warmup=100, stages=2, epochs=(0, 1000), crop=128
    )
    knows = frozenset({"loss", "keep", "teacher", "lesson"})
    parts: tuple[str, ...] = ("deblur", "map", "focus")

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        super().__init__(name, net, plan, options)
        losses.check_choice(options.loss, *filter(None, _PICTURES))
        if not isinstance(net, Deblurrer | AplDetect | JdrlReblur | DualPixelMap):
            raise UsageError(f"{name}: the plain recipe has no truth for what it gives")
        if options.keep and not isinstance(net, Deblurrer):
            raise UsageError(
                f"{name} makes no picture sharp, of which it could keep a part: --keep"
            )
        if plan.stage_steps(1) and not _estimates(name):
            raise UsageError(f"{name} estimates no map first; leave stage 1 out: --epochs 0,1")
        _check_used(plan, options)
        if options.keep:
            self.parts = (*self.parts, "keep")
        self.teacher = _teacher(name, net, plan, options)
        if self.teacher is not None:
            self.parts = (*self.parts, "lesson")
        self.net = net
        self._still = [module for module in net.modules() if _is_frozen(module)]
        maps_alone = isinstance(net, AplDetect | DualPixelMap)
        if maps_alone and options.loss:
            raise UsageError(f"{name} makes no pictures, which a loss would compare: --loss")
        self.views = isinstance(net, DualPixelMap)
        self.blur = net.max_radius / 2 if self.views else self.blur
        self.needs_maps = maps_alone or bool(plan.stage_steps(1)) or bool(options.keep)
        self.needs_sharp = not maps_alone and bool(plan.stage_steps(2))
        if _estimates(name) and not self._still:  # what is frozen learns from nothing
            self.without_maps = NO_MAP
        self.optimizers = {"net": adam(net.parameters(), plan.learning_rate)}

    def prepare(self, step: int) -> None:  # noqa: ARG002
        """What is frozen stays, batch normalisation's running means too: they are no parameters."""
        for module in self._still:
            module.eval()

    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:  # noqa: ARG002
        """See Recipe."""
        if self.stage(step) == 1:
            return self._map_alone(step, batch, self.net.run("estimate", batch.blurry)[0])
        if isinstance(self.net, DualPixelMap):
            return self._map_alone(step, batch, self.net(batch.left, batch.right))
        return parts(self.net, batch, partial(self._compare, batch))

    def _map_alone(self, step: int, batch: Batch, seen: Tensor) -> dict[str, Tensor]:
        """The loss of a stage that trains nothing but a map; see the module's text."""
        steps = self.plan.stage_steps(self.stage(step))  # stage 1, or a stage 2 without a first
        if not self.net.max_radius:
            return map_part(self.net, batch, seen)
        compare = losses.cross_entropy if isinstance(self.net, DualPixelMap) else losses.squares
        if step >= steps // 2:
            compare = losses.map_loss
        return {"map": compare(seen, batch.defocus)}

    def _taught(self, batch: Batch) -> Tensor:
        """What the teacher makes of a batch, [N, 3, H, W]."""
        assert self.teacher is not None
        with torch.no_grad():
            sharp: Tensor = self.teacher.to(batch.blurry.device)(batch.blurry)[0]
        return sharp

    def _compare(self, batch: Batch, given: Tensor, wanted: Tensor) -> dict[str, Tensor]:
        compare, share = _PICTURES[self.options.loss], self.options.lesson
        found = {"deblur": compare(given, wanted)}
        if self.teacher is not None:
            found["deblur"] = (1 - share) * found["deblur"]
            found["lesson"] = share * compare(given, self._taught(batch))
        if self.options.keep:
            focus = in_focus(batch, self.max_radius)
            found["keep"] = self.options.keep * losses.kept(given, wanted, focus)
        return found


def _is_frozen(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def _teacher(name: str, net: Net, plan: Plan, options: Options) -> Deblurrer | None:
    if not options.teacher:
        if "lesson" in options.given():
            raise UsageError("--lesson: there is no teacher; give --teacher FILE too")
        return None
    teacher = checkpoint.load_any(Path(options.teacher))[0]
    if not isinstance(net, Deblurrer) or not isinstance(teacher, Deblurrer):
        raise UsageError(f"{name}, taught by {options.teacher}: expected two deblurrers")
    check_crop(f"the teacher, {options.teacher},", plan.crop, teacher.multiple)
    return teacher.eval().requires_grad_(False)


def parts(net: Net, batch: Batch, compare: Compare) -> dict[str, Tensor]:
    """The weighted losses of a deblurring, detecting or reblurring net on a batch."""
    if isinstance(net, JdrlReblur):
        reblurred, _ = net(batch.sharp, batch.blurry)
        return compare(reblurred, batch.blurry)
    if isinstance(net, AplDetect):
        return {"focus": losses.by_edges(net(batch.blurry), seen_radius(batch, RADIUS))}
    sharp, seen = net(batch.blurry)
    found = compare(sharp, batch.sharp)
    if seen is not None and batch.has_map:
        found |= map_part(net, batch, seen)
    return found


def map_part(net: Net, batch: Batch, seen: Tensor) -> dict[str, Tensor]:
    """The weighted loss of a net's own map, of radii or of the focus."""
    if net.max_radius:
        return {"map": MAP * losses.map_loss(seen, batch.defocus)}
    return {"focus": FOCUS * losses.cross_entropy(seen, in_focus(batch, RADIUS))}


def _check_used(plan: Plan, options: Options) -> None:
    """Refuse choices of how pictures are compared where none are: UsageError."""
    unused = sorted(options.given() & {"keep", "loss"})
    if unused and not plan.stage_steps(2):
        raise UsageError(
            f"{', '.join(unused)}: stage 1 compares maps alone, and stage 2 has no steps; expected "
            "some, such as --epochs 1,4, or none of these options"
        )


def _estimates(name: str) -> bool:
    phase = MODELS[name].signatures.get("estimate")
    return phase is not None and bool({"defocus", "focus"} & set(phase.outputs))
