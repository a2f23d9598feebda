"""What a training begins with: a new net or given weights, and which of them stay."""

from __future__ import annotations

import argparse
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from allfocus.runtime.errors import UsageError
from allfocus.train import checkpoint
from allfocus.train.models import build

if TYPE_CHECKING:
    from allfocus.train.models.base import Net
    from allfocus.train.recipe import Recipe


def start_net(args: argparse.Namespace) -> tuple[Net, str]:
    """The net, new or with the weights of --init, and what it starts from in words."""
    changes = ", ".join(f"{key} {number}" for key, number in (args.net or {}).items())
    if args.init is None:
        net, said = build(args.model, args.net), f"with {changes}" if changes else ""
    elif args.net:
        net, said = _grafted(args, changes)
    else:
        net, spec = checkpoint.load(args.model, args.init)
        said = f"from weights {spec.weights_sha256[:12]} ({spec.weights})"
    return net, ", ".join(filter(None, (said, _frozen(args, net), _taught(args))))


def _taught(args: argparse.Namespace) -> str:
    """By which weights, in words: a continued run must have the same teacher."""
    if args.teacher is None:
        return ""
    return f"taught by weights {checkpoint.load_any(args.teacher)[1].weights_sha256[:12]}"


def _grafted(args: argparse.Namespace, changes: str) -> tuple[Net, str]:
    """A net of other widths and depths with those weights of --init that fit by name and shape."""
    net = build(args.model, args.net)
    donor, spec = checkpoint.load_any(args.init)
    ours = net.state_dict()
    fitting = {
        name: value
        for name, value in donor.state_dict().items()
        if name in ours and ours[name].shape == value.shape
    }
    if not fitting:
        raise UsageError(f"--init {args.init}: no weight of it fits a net with {changes}")
    net.load_state_dict(fitting, strict=False)
    share = f"{len(fitting)} of its {len(ours)} tensors from weights {spec.weights_sha256[:12]}"
    return net, f"with {changes}, {share} ({spec.weights})"


def check_freeze(args: argparse.Namespace, recipe: Recipe) -> None:
    """Papers' recipes freeze and thaw parts themselves, and a stage 1 trains the map alone."""
    if args.freeze and (args.recipe != "plain" or recipe.plan.stage_steps(1)):
        raise UsageError("--freeze: for --recipe plain without its stage 1 (--epochs 0,1) only")


def _frozen(args: argparse.Namespace, net: Net) -> str:
    """Leave the parameters of --freeze as they are; in words."""
    for pattern in args.freeze or ():
        named = [p for name, p in net.named_parameters() if fnmatchcase(name, pattern)]
        if not named:
            raise UsageError(f"--freeze {pattern}: no parameter has such a name")
        for parameter in named:
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in net.parameters()):
        raise UsageError("--freeze: nothing is left to train")
    return f"{', '.join(args.freeze)} left as they were" if args.freeze else ""
