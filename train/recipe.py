"""What every recipe offers the loop, and the plan of a run: how long, how fast, which options.

A recipe is one paper's way to train: its nets, stages and losses. Each stands in a file of
`allfocus.train.recipes`; the loop drives them all alike.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from allfocus.runtime.errors import UsageError
from allfocus.train.data import Batch
from allfocus.train.models.base import Net
from allfocus.train.synthetic import IN_FOCUS

EPOCHS = (400, 200, 400)  # DID-ANet's, of stages 1, 2, 3
EPOCH_SAMPLES = 1012  # the size of DID-ANet's training set: an epoch, whatever the data
RADIUS = 8.0  # pixels of blur at map value 1 for nets that estimate none
NO_MAP = "the estimator learnt from no true map"  # what nets with one lose without maps
_MAKE_MAPS = "make them by `allfocus data make-maps`"
_LOG = logging.getLogger("allfocus.train")
_NEVER_NONE = 0.01  # of the learning rate: the lowest that a cosine falls to


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, in which order and for how long. The defaults are DID-ANet's, but for the
    learning rate, which its text does not name: it is SFT's.

    `scale` multiplies the `epochs` of all stages; `total` instead sets the steps of all stages
    together, which keep their proportions. `offset` is W0 of DID-ANet's eq. 4. `depths`: blocks of
    its deblurrer that stage 1 runs with, in equal shares of its steps; empty: all. It saves time on
    small machines, and since new blocks start as the identity, switching them on changes no output.
    """

    batch: int = 16
    crop: int = 256
    learning_rate: float = 1e-4
    schedule: Literal["constant", "cosine", "halving"] = "constant"
    halve: float = 0.0  # epochs after which the schedule "halving" halves the rate, each time
    warmup: int = 0  # steps over which the learning rate rises from zero
    stages: int = len(EPOCHS)
    epochs: tuple[int, ...] = EPOCHS
    epoch_samples: int = EPOCH_SAMPLES
    scale: float = 1.0
    total: int = 0  # steps of all stages; 0: as many as `epochs` and `scale` make
    offset: float = 1 / 9
    depths: tuple[int, ...] = ()
    seed: int = 0
    ema: float = 0.0  # decay of the averaged weights, a step; 0: weights are not averaged
    tints: float = 0.0  # share of the samples that get other colours and tones

    def __post_init__(self) -> None:
        for name in ("batch", "crop", "learning_rate", "scale", "epoch_samples"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name}: expected more than 0, got {getattr(self, name)}")
        for name in ("learning_rate", "scale", "offset"):
            if not math.isfinite(getattr(self, name)):
                raise UsageError(f"{name}: expected a finite number, got {getattr(self, name)}")
        if not math.isfinite(max(self.epochs, default=0) * self.scale * self.epoch_samples):
            raise UsageError(f"scale: {self.scale:g} times the epochs is beyond all numbers")
        if self.warmup < 0:
            raise UsageError(f"warmup: expected 0 steps or more, got {self.warmup}")
        if any(depth < 1 for depth in self.depths):
            raise UsageError(f"depths: expected at least 1 block, got {self.depths}")
        if len(self.epochs) != self.stages:
            raise UsageError(
                f"epochs: expected one number for each of {self.stages} stages, got {self.epochs}"
            )
        if not any(self.epochs):
            raise UsageError("epochs: expected a stage of more than 0, got 0 for all")
        if self.schedule == "halving" and not self.halve > 0:
            raise UsageError("schedule: no paper says when to halve; expected constant or cosine")
        if not 0 <= self.tints <= 1:
            raise UsageError(f"tints: expected a share from 0 to 1, got {self.tints}")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema: expected 0 or more and under 1, got {self.ema}")

    def stage_steps(self, stage: int) -> int:
        """Steps of a stage, counted from 1; a stage of 0 epochs is left out."""
        if self.total:
            ends = [round(self.total * e / sum(self.epochs)) for e in accumulate(self.epochs)]
            return ends[stage - 1] - (ends[stage - 2] if stage > 1 else 0)
        steps = round(self.epochs[stage - 1] * self.scale * self.epoch_samples / self.batch)
        return max(1, steps) if self.epochs[stage - 1] else 0

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(self.stage_steps(s) for s in range(1, self.stages + 1))

    def stage(self, step: int) -> int:
        """The stage that `step`, counted from 0, belongs to."""
        ends = accumulate(self.stage_steps(s) for s in range(1, self.stages + 1))
        return next((s for s, end in enumerate(ends, start=1) if step < end), self.stages)

    def depth(self, step: int, blocks: int) -> int:
        """Blocks of the deblurrer in use at `step`, of `blocks` in all."""
        if not self.depths or self.stage(step) > 1:
            return blocks
        share = step * len(self.depths) // self.stage_steps(1)
        return min(blocks, self.depths[share])

    def rate(self, step: int) -> float:
        """Learning rate at `step`."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.learning_rate * rise * self._fall(step / self.steps)

    def _fall(self, done: float) -> float:
        """What the schedule leaves of the rate when this share of all steps is done."""
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "halving":
            return 0.5 ** int(done * sum(self.epochs) / self.halve)
        return max(0.5 * (1 + math.cos(math.pi * done)), _NEVER_NONE)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Ablations and choices; each recipe knows some, and refuses what it does not know."""

    loss: Literal["", "l1", "l2", "wd", "charbonnier", "psnr"] = (
        ""  # of the pictures; "": the paper's
    )
    keep: float = 0.0  # plain: weight of what is in focus, by itself, beside the whole picture
    teacher: str = ""  # plain: weights whose pictures are learnt from beside the truth; "": none
    lesson: float = 0.5  # plain: the teacher's share of the pictures' loss
    cycle: bool = True  # JDRL: the output is deformed towards the truth too
    mask: bool = True  # JDRL: the calibration mask; DefocusGAN: the masks that guide the branches
    reblur: bool = True  # JDRL: the reblurring net and its loss
    guidance: bool = True  # DID-ANet: the map that the deblurrer is given (table III, "Backbone")
    auxiliary: bool = True  # DID-ANet: the map's loss, and the true map in stage 1 ("Without AL")
    misaligned: bool = False  # JDRL: sharp pictures slightly displaced
    adversary: bool = True  # DefocusGAN: the critic and its loss
    labels: bool = False  # APL: true pictures and masks, which synthetic data has
    vgg: str = ""  # DefocusGAN: file with VGG19's weights for the perceptual loss; "": without

    def __post_init__(self) -> None:
        if not 0 <= self.keep < math.inf:
            raise UsageError(f"keep: expected a weight of 0 or more, got {self.keep}")
        if not 0 < self.lesson <= 1:
            raise UsageError(f"lesson: expected a share above 0, up to 1, got {self.lesson}")

    def given(self) -> set[str]:
        """Names of those that are not at their defaults."""
        return {f.name for f in fields(self) if getattr(self, f.name) != f.default}


class Recipe(ABC):
    """One paper's way to train. The loop calls `prepare(step)`; then for each of the `turns(step)`
    it takes the sum of `losses(...)`, and a step of the turn's optimizer.
    """

    paper: ClassVar[Plan] = Plan()  # what the paper used
    knows: ClassVar[frozenset[str]] = frozenset()  # of Options, and Plan's `offset` and `depths`
    parts: tuple[str, ...]  # names of all losses, in the log's order

    def __init__(self, name: str, net: Net, plan: Plan, options: Options) -> None:
        unknown = options.given() | {n for n in ("offset", "depths") if _given(plan, n)}
        if unknown - self.knows:
            raise UsageError(
                f"{', '.join(sorted(unknown - self.knows))}: this recipe has no such option; "
                f"it knows {', '.join(sorted(self.knows)) or 'none'}"
            )
        check_crop(name, plan.crop, net.multiple)
        _check_normalised(name, net, plan)
        self.plan, self.options = plan, options
        self.nets: dict[str, Net] = {name: net}  # registered ones that are trained
        self.helpers: dict[str, nn.Module] = {}  # trained too, but of no use afterwards
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.max_radius = net.max_radius or RADIUS  # pixels: a Batch's map is 1 there
        self.blur = RADIUS  # pixels: most of the blur to be drawn lies under it
        self.views = self.misaligned = False  # what the data must have besides
        self.needs_maps, self.needs_sharp = False, True  # without them nothing true is learnt
        self.without_maps = ""  # what is lost where the data has none, which it goes on without
        self.one_side = False  # a helper takes crops of the plan's side alone, held-out ones too
        self.displaced = False  # the truth of pairs may not lie over them: deform it to judge by it
        self.losses_judge = True  # the lower they are on held-out crops, the better the nets
        self.remark = ""  # what the weights' provenance should say

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.plan.steps

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Nets and helpers by name: what a resumed run needs."""
        return {**self.nets, **self.helpers}

    @property
    def saved(self) -> dict[str, Net]:
        """What a run is made for, by registered name."""
        return self.nets

    def check_data(
        self, name: str, *, has_map: bool, has_sharp: bool, has_views: bool = False
    ) -> None:
        """Refuse data, called `name`, that lacks what this recipe learns from: UsageError."""
        if self.needs_sharp and not has_sharp:
            raise UsageError(
                f"{name}: no sharp pictures, only blurry ones with masks, so there is nothing to "
                "learn deblurring from; give pairs or sharp photos, or train a model that detects "
                "(apl-detect)"
            )
        if self.needs_maps and not has_map:
            raise UsageError(
                f"{name}: no maps, which this recipe learns from; {_MAKE_MAPS}, or give sharp "
                "photos, which are blurred by maps that are known"
            )
        if self.views and not has_views:
            raise UsageError(
                f"{name}: no dual-pixel views, which this recipe learns from; give sharp photos, "
                "which they are drawn from, or a data set that has them"
            )

    def go_without(self, name: str, *, has_map: bool) -> None:
        """Warn of what training data, called `name`, lacks and can be done without, and have the
        weights' provenance say so. Raises UsageError where the plan cannot go on like that.
        """
        if not has_map and self.without_maps:
            self.remark = ", ".join(filter(None, (self.remark, self.without_maps)))
            _LOG.warning("%s: no maps, so %s; %s", name, self.without_maps, _MAKE_MAPS)

    def stage(self, step: int) -> int:
        """The stage of `step`, counted from 1."""
        return self.plan.stage(step)

    def rate(self, step: int) -> float:
        """Learning rate of all optimizers at `step`."""
        return self.plan.rate(step)

    def prepare(self, step: int) -> None:  # noqa: B027
        """Freeze, thaw or change the nets for `step`; here nothing."""

    def finish(self) -> None:  # noqa: B027
        """Leave the nets as they are to be used; here nothing."""

    def turns(self, step: int) -> tuple[str, ...]:  # noqa: ARG002
        """Names of the optimizers that take a step at `step`, in this order; here all."""
        return tuple(self.optimizers)

    @abstractmethod
    def losses(self, step: int, batch: Batch, turn: str) -> dict[str, Tensor]:
        """Weighted parts of the loss of the optimizer `turn`, each a scalar."""


def adam(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Adam:
    """Adam as all five papers have it, or leave it at PyTorch's defaults."""
    return torch.optim.Adam(parameters, rate, (0.9, 0.999), 1e-8)


def in_focus(batch: Batch, max_radius: float) -> Tensor:
    """The true mask [N, 1, H, W] of a batch whose map is 1 at `max_radius` pixels: 1 in focus."""
    radius = seen_radius(batch, max_radius)
    return (radius < IN_FOCUS).to(radius.dtype)


def seen_radius(batch: Batch, max_radius: float) -> Tensor:
    """What tells what is in focus, pixels [N, 1, H, W], of a batch whose map is 1 at `max_radius`;
    that of the front-most where the data knows no other."""
    return (batch.defocus if batch.seen is None else batch.seen) * max_radius


def _check_normalised(name: str, net: Net, plan: Plan) -> None:
    """Raise UsageError where batch normalisation would have one value alone, of which no mean and
    no variance can be learnt."""
    alone = plan.batch == 1 and plan.crop == net.multiple
    if alone and any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        raise UsageError(
            f"crop: {name} normalises batches, and of one crop of {plan.crop} its deepest layers "
            f"have a single position; give --batch 2 or --crop {2 * plan.crop}"
        )


def _given(plan: Plan, name: str) -> bool:
    return bool(getattr(plan, name) != getattr(Plan, name))


def check_crop(name: str, crop: int, multiple: int) -> None:
    """Raise UsageError for crops that the net `name` cannot take."""
    if crop % multiple == 0:
        return
    below = crop - crop % multiple
    near = " or ".join(str(side) for side in (below, below + multiple) if side)
    raise UsageError(
        f"crop: {name} takes sides that are multiples of {multiple} pixels, got {crop}; give "
        f"--crop {near}"
    )
