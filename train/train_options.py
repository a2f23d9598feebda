"""The options of `train/train.py`, and what of a recipe they change."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from allfocus.runtime.artefacts import packaged_weights
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.command import not_negative, positive
from allfocus.runtime.errors import UsageError

if TYPE_CHECKING:
    from allfocus.train.recipe import Options, Plan


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """How long, how fast, and by which choices. Those without a default have the paper's."""
    _add_length(parser)
    _add_rates(parser)
    _add_choices(parser)


def _add_length(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--epochs", type=_numbers, help="of each stage, such as 400,200,400")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all epochs")
    parser.add_argument(
        "--steps", type=positive, help="steps of all stages together, instead of --scale"
    )
    parser.add_argument("--stages", type=_numbers, help="only these, such as 1,2 (default all)")
    parser.add_argument("--batch", type=positive)
    parser.add_argument("--crop", type=positive, help="side of a crop, pixels")


def _add_rates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lr", type=float, help="Adam's learning rate")
    parser.add_argument("--schedule", choices=("constant", "cosine", "halving"))
    parser.add_argument("--warmup", type=not_negative, help="steps of rising learning rate")
    parser.add_argument(
        "--ema", type=float, help="average the weights, with this decay, such as 0.999"
    )
    parser.add_argument("--offset", type=float, help="W0 of DID-ANet's eq. 4 (paper: 1/9)")
    parser.add_argument(
        "--depths", type=_numbers, help="DID-ANet's blocks in stage 1, such as 4,4,8 (default all)"
    )


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--loss", choices=("l1", "l2", "wd", "charbonnier", "psnr"), help="of the pictures"
    )
    parser.add_argument(
        "--keep",
        type=float,
        metavar="WEIGHT",
        help="plain: also by the PSNR of what is in focus alone, so that it stays (0)",
    )
    for name, said in (
        ("cycle", "JDRL without deforming the output towards the truth"),
        ("mask", "JDRL without its calibration mask, DefocusGAN without guiding masks"),
        ("reblur", "JDRL without its reblurring net"),
        ("adversary", "DefocusGAN without its critic"),
        ("guidance", "DID-ANet: the deblurrer alone, without a map"),
        ("auxiliary", "DID-ANet: no true maps, neither to learn from nor to deblur with"),
    ):
        parser.add_argument(f"--no-{name}", dest=name, action="store_false", help=said)
    parser.add_argument(
        "--teacher",
        type=given_weights,
        metavar="FILE|NAME",
        help="plain: weights of a better net, whose pictures are learnt from too (distillation)",
    )
    parser.add_argument("--lesson", type=float, help="plain: the teacher's share of that (0.5)")
    parser.add_argument("--misaligned", action="store_true", help="JDRL: displaced sharp pictures")
    parser.add_argument("--labels", action="store_true", help="APL: with true pictures and masks")
    parser.add_argument("--vgg", type=Path, help="DefocusGAN: VGG19's weights, torchvision's file")


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers and commas, got {text!r}")
    return tuple(int(part) for part in parts)


def seed(text: str) -> int:
    """An argparse type: a number that NumPy and PyTorch take as a seed."""
    value = not_negative(text)
    if value >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a seed of under 2**63, got {text}")
    return value


def given_weights(text: str) -> Path:
    """An argparse type: a file of weights, or the package's own of the model of this name."""
    path, packaged = Path(text), packaged_weights(text) if text in MODELS else None
    if path.is_file() or packaged is None:
        return path
    if not packaged.is_file():
        raise argparse.ArgumentTypeError(f"the package has no weights of {text}; give a file")
    return packaged


def widths(text: str) -> dict[str, int]:
    """An argparse type: widths and depths of a net by their names."""
    parts = [part.partition("=") for part in text.split(",")]
    once = len({key for key, _, _ in parts}) == len(parts)
    if not once or not all(key and number.isdecimal() for key, _, number in parts):
        raise argparse.ArgumentTypeError(
            f"expected each once, such as features=48,blocks=8, got {text!r}"
        )
    return {key: int(number) for key, _, number in parts}


def plan_of(args: argparse.Namespace, paper: Plan) -> Plan:
    """The paper's plan, but for what was given; raises UsageError for what contradicts itself."""
    if args.steps and args.scale != 1:
        raise UsageError("--steps and --scale: give one of them")
    given = {
        "batch": args.batch,
        "crop": args.crop,
        "learning_rate": args.lr,
        "schedule": args.schedule,
        "warmup": args.warmup,
        "epochs": _epochs(args, paper),
        "offset": args.offset,
        "depths": args.depths,
        "ema": args.ema,
        "tints": args.tints,
        "total": args.steps,
    }
    known = {name: value for name, value in given.items() if value is not None}
    return replace(paper, scale=args.scale, seed=args.seed, **known)


def _epochs(args: argparse.Namespace, paper: Plan) -> tuple[int, ...]:
    """Of all stages: none of those that --stages leaves out."""
    epochs: tuple[int, ...] = paper.epochs if args.epochs is None else args.epochs
    if args.stages is None:
        return epochs
    if not set(args.stages) <= set(range(1, paper.stages + 1)):
        raise UsageError(
            f"--stages: expected some of 1 to {paper.stages}, got {','.join(map(str, args.stages))}"
        )
    kept = tuple(e if stage in args.stages else 0 for stage, e in enumerate(epochs, start=1))
    if not any(kept) and args.epochs is None:
        said = ",".join(map(str, args.stages))
        wanted = ",".join(str(int(s in args.stages)) for s in range(1, paper.stages + 1))
        raise UsageError(
            f"--stages {said}: this recipe leaves it out; give it a length: --epochs {wanted}"
        )
    return kept


def options_of(args: argparse.Namespace) -> Options:
    """The recipe's choices."""
    from allfocus.train.recipe import Options

    return Options(
        loss=args.loss or "",
        keep=args.keep or 0.0,
        cycle=args.cycle,
        mask=args.mask,
        reblur=args.reblur,
        adversary=args.adversary,
        guidance=args.guidance,
        auxiliary=args.auxiliary,
        misaligned=args.misaligned,
        labels=args.labels,
        vgg=str(args.vgg or ""),
        teacher=str(args.teacher or ""),
        **({} if args.lesson is None else {"lesson": args.lesson}),
    )
