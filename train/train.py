"""Train a net by its paper's recipe: `python train/train.py --model didanet --data DIR`.

DIR holds sharp photos (blurred on the fly) or pairs; see train/data.py. A run killed at any step
goes on with the same command. Writes `NAME.safetensors`, with the Spec inside, into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from allfocus.runtime.command import positive, script
    from allfocus.runtime.errors import UsageError
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[train]"')

if TYPE_CHECKING:
    from allfocus.train.data import Samples
    from allfocus.train.models.base import Net
    from allfocus.train.recipe import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", default="didanet", help="a DID-ANet variant (default didanet)")
    parser.add_argument("--data", type=Path, required=True, help="folder of photos or pairs")
    parser.add_argument("--val", type=Path, help="folder to validate on; default: one photo in ten")
    parser.add_argument("--init", type=Path, help="weights to start from (fine-tuning)")
    parser.add_argument("--out", type=Path, default=Path("runs/didanet"), help="the run's folder")
    parser.add_argument(
        "--epochs",
        type=_numbers,
        default=(400, 200, 400),
        help="of the stages (paper: 400,200,400)",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all epochs")
    parser.add_argument("--batch", type=positive, default=16)
    parser.add_argument("--crop", type=positive, default=256, help="side of a crop, pixels")
    parser.add_argument("--lr", type=float, default=1e-4, help="Adam's learning rate")
    parser.add_argument("--schedule", choices=("constant", "cosine"), default="constant")
    parser.add_argument("--warmup", type=int, default=0, help="steps of rising learning rate")
    parser.add_argument("--offset", type=float, default=1 / 9, help="W0 of eq. 4 (paper: 1/9)")
    parser.add_argument(
        "--depths", type=_numbers, default=(), help="blocks in stage 1, such as 4,4,8 (default all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of autocast")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument("--workers", type=int, default=1, help="processes that make samples")
    parser.add_argument("--val-crops", type=positive, default=64)
    parser.add_argument("--license", default="as the training data's", help="terms of the weights")
    parser.add_argument("--note", default="", help="a sentence for the weights' provenance")
    parser.add_argument("--json", action="store_true", help="print the final report as JSON")


def run(args: argparse.Namespace) -> int:
    """Train, validate, write the checkpoint and its report."""
    import torch

    from allfocus.train import checkpoint
    from allfocus.train.loop import fit, pick_device
    from allfocus.train.models.didanet import DidANet
    from allfocus.train.state import settings
    from allfocus.train.validate import validate

    torch.manual_seed(args.seed)
    net, start = _start(args)
    if not isinstance(net, DidANet):
        raise UsageError(f"{args.model}: no recipe for it yet; known: didanet and its variants")
    plan = _plan(args)
    samples, held_out = _open(args, plan, net.max_radius)
    seconds = fit(
        net,
        samples,
        plan,
        args.out,
        run=settings(args.model, args.data, plan, start),
        device=pick_device(args.device),
        precision=args.precision,
        workers=args.workers,
    )
    net.to("cpu")
    report = validate(net, held_out, args.val_crops)
    path = args.out / f"{args.model}.safetensors"
    spec = checkpoint.save(
        path, args.model, net, weights=_provenance(args, plan, start), license=args.license
    )
    summary = {
        "weights": str(path),
        "sha256": spec.weights_sha256,
        "steps": plan.steps,
        "seconds_of_this_go": round(seconds, 1),
        "validation": asdict(report),
    }
    (args.out / "report.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary) if args.json else f"{path}: {report.line()}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("train.py", __doc__ or "", add_arguments, run, argv)


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers and commas, got {text!r}")
    return tuple(int(part) for part in parts)


def _start(args: argparse.Namespace) -> tuple[Net, str]:
    """The net, new or with the weights of --init, and what it starts from in words."""
    from allfocus.train import checkpoint
    from allfocus.train.models import build

    if args.init is None:
        return build(args.model), ""
    net, spec = checkpoint.load(args.model, args.init)
    return net, f"from weights {spec.weights_sha256[:12]} ({spec.weights})"


def _plan(args: argparse.Namespace) -> Plan:
    from allfocus.train.recipe import Plan

    return Plan(
        batch=args.batch,
        crop=args.crop,
        learning_rate=args.lr,
        schedule=args.schedule,
        warmup=args.warmup,
        epochs=args.epochs,
        scale=args.scale,
        offset=args.offset,
        depths=args.depths,
        seed=args.seed,
    )


def _open(args: argparse.Namespace, plan: Plan, max_radius: float) -> tuple[Samples, Samples]:
    """Training samples, and held-out ones drawn with another seed."""
    from allfocus.train.data import find, hold_out, make_samples
    from allfocus.train.synthetic import Recipe

    recipe = Recipe(max_radius=max_radius)
    items = find(args.data)
    if args.val:
        held, side = find(args.val), max(plan.crop, 128)
    else:
        (items, held), side = hold_out(items), plan.crop
    samples = make_samples(items, plan.crop, plan.seed, recipe)
    return samples, make_samples(held, side, plan.seed + 1, recipe)


def _provenance(args: argparse.Namespace, plan: Plan, start: str) -> str:
    stages = " + ".join(str(plan.stage_steps(stage)) for stage in (1, 2, 3))
    how = f"trained {stages} steps (stages 1-3) of {plan.batch} crops of {plan.crop}x{plan.crop}"
    how += f", {args.precision}, seed {plan.seed}"
    return ". ".join(filter(None, (how, start, args.note)))


if __name__ == "__main__":
    sys.exit(main())
