"""Train a net by its paper's recipe: `python train/train.py --model didanet --data DIR`.

DIR holds sharp photos (blurred on the fly) or pairs; see train/data.py. A run killed at any step
goes on with the same command. Writes `NAME.safetensors`, with the Spec inside, into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from allfocus.runtime.command import not_negative, positive, script
    from allfocus.runtime.errors import UsageError
    from allfocus.runtime.files import check_folder, publish, remove_drafts
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[train]"')

if TYPE_CHECKING:
    import torch

    from allfocus.train.data import Samples
    from allfocus.train.loop import Watch
    from allfocus.train.models.base import Net
    from allfocus.train.recipe import Options, Plan, Recipe
    from allfocus.train.split import Split

_PATIENCE = 8.0  # seconds that a run's data workers live on when it is killed, with its lock
# Of a Plan, what a provenance tells in other words: sizes, each stage's steps, seed, average.
_TOLD = {"batch", "crop", "stages", "epochs", "epoch_samples", "scale", "total", "seed", "ema"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command. Those without a default here have the paper's."""
    parser.add_argument("--model", default="didanet", help="name of the model (default didanet)")
    parser.add_argument(
        "--recipe",
        choices=("paper", "plain"),
        default="paper",
        help="plain: what the net gives is compared with the truth, in one stage",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of photos or pairs")
    cache = "folder in which pairs are kept decoded: 3 bytes a pixel of each picture, 4 of a map"
    parser.add_argument("--cache", type=Path, help=cache)
    tints = "share of the samples that get other colours and tones (none)"
    parser.add_argument("--tints", type=float, help=tints)
    parser.add_argument("--val", type=Path, help="folder to validate on; default: one scene in ten")
    parser.add_argument(
        "--net",
        type=_widths,
        metavar="KEY=N,...",
        help="other widths and depths: features=48,blocks=8",
    )
    parser.add_argument(
        "--freeze", nargs="+", metavar="PATTERN", help="parameters that stay: 'estimator.*'"
    )
    parser.add_argument("--init", type=Path, help="weights to start from (fine-tuning)")
    parser.add_argument("--out", type=Path, help="the run's folder (default runs/MODEL)")
    _add_length(parser)
    _add_rates(parser)
    _add_choices(parser)
    parser.add_argument("--seed", type=_seed, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of autocast")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument(
        "--workers", type=not_negative, default=1, help="processes that make samples"
    )
    parser.add_argument("--val-crops", type=positive, default=64)
    parser.add_argument("--tensorboard", action="store_true", help="events in OUT/tensorboard too")
    parser.add_argument(
        "--pictures",
        type=not_negative,
        default=1000,
        help="steps between OUT/samples/*.png; 0: none",
    )
    parser.add_argument("--license", default="as the training data's", help="terms of the weights")
    parser.add_argument("--note", default="", help="a sentence for the weights' provenance")
    parser.add_argument("--json", action="store_true", help="print the final report as JSON")


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
        type=Path,
        metavar="FILE",
        help="plain: weights of a better net, whose pictures are learnt from too (distillation)",
    )
    parser.add_argument("--lesson", type=float, help="plain: the teacher's share of that (0.5)")
    parser.add_argument("--misaligned", action="store_true", help="JDRL: displaced sharp pictures")
    parser.add_argument("--labels", action="store_true", help="APL: with true pictures and masks")
    parser.add_argument("--vgg", type=Path, help="DefocusGAN: VGG19's weights, torchvision's file")


def run(args: argparse.Namespace) -> int:
    """Train, validate, write the checkpoints and the report."""
    import torch

    from allfocus.train.alone import alone
    from allfocus.train.loop import pick_device
    from allfocus.train.recipes import recipe_of

    args.out = args.out or Path("runs") / args.model
    check_folder(args.out)
    if args.cache is not None:
        check_folder(args.cache, "--cache")
    device = pick_device(args.device)
    torch.manual_seed(args.seed)
    net, start = _start(args)
    kind = recipe_of(args.model, net, args.recipe)
    recipe = kind(args.model, net, _plan(args, kind.paper), _options(args))
    _check_freeze(args, recipe)
    with alone(args.out, "train", patience=_PATIENCE):
        remove_drafts(_files(args, recipe))  # of a run that was killed
        summary = _train(args, recipe, start, device)
    print(json.dumps(summary) if args.json else _line(summary))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("train.py", __doc__ or "", add_arguments, run, argv)


def _train(
    args: argparse.Namespace, recipe: Recipe, start: str, device: torch.device
) -> dict[str, object]:
    """Train, validate, and write weights and report; the report."""
    from allfocus.train.decoded import Decoded
    from allfocus.train.loop import fit
    from allfocus.train.split import open_split

    split = open_split(args.data, args.val, recipe, Decoded(args.cache))
    taken = fit(
        recipe,
        split.samples,
        args.out,
        run=_settings(args, recipe, start, split),
        device=device,
        precision=args.precision,
        workers=args.workers,
        watch=_watch(args, recipe, split.held_out),
    )
    summary = {
        **_save(args, recipe, start),
        "steps": recipe.steps,
        "seconds_of_this_go": round(taken.seconds, 1),
        "of_which_waiting_for_data": round(taken.waiting, 1),
        "validation": _validate(recipe, split.held_out, args.val_crops),
    }
    with publish(args.out / "report.json", durable=True) as draft:
        draft.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _files(args: argparse.Namespace, recipe: Recipe) -> Iterator[Path]:
    """All that a run writes."""
    from allfocus.train.log import sheet_file

    for name in ("state.pt", "log.csv", "report.json"):
        yield args.out / name
    for name in recipe.saved:
        yield args.out / f"{name}.safetensors"
    if args.pictures:
        for step in range(args.pictures, recipe.steps + 1, args.pictures):
            yield sheet_file(args.out, step)


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"expected whole numbers and commas, got {text!r}")
    return tuple(int(part) for part in parts)


def _seed(text: str) -> int:
    value = not_negative(text)
    if value >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a seed of under 2**63, got {text}")
    return value


def _widths(text: str) -> dict[str, int]:
    parts = [part.partition("=") for part in text.split(",")]
    if not all(key and number.isdecimal() for key, _, number in parts):
        raise argparse.ArgumentTypeError(f"expected such as features=48,blocks=8, got {text!r}")
    return {key: int(number) for key, _, number in parts}


def _start(args: argparse.Namespace) -> tuple[Net, str]:
    """The net, new or with the weights of --init, and what it starts from in words."""
    from allfocus.train import checkpoint
    from allfocus.train.models import build

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
    from allfocus.train import checkpoint

    if args.teacher is None:
        return ""
    return f"taught by weights {checkpoint.load_any(args.teacher)[1].weights_sha256[:12]}"


def _grafted(args: argparse.Namespace, changes: str) -> tuple[Net, str]:
    """A net of other widths and depths with those weights of --init that fit by name and shape."""
    from allfocus.train import checkpoint
    from allfocus.train.models import build

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


def _check_freeze(args: argparse.Namespace, recipe: Recipe) -> None:
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


def _plan(args: argparse.Namespace, paper: Plan) -> Plan:
    """The paper's plan, but for what was given."""
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
    return tuple(e if stage in args.stages else 0 for stage, e in enumerate(epochs, start=1))


def _options(args: argparse.Namespace) -> Options:
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


def _settings(
    args: argparse.Namespace, recipe: Recipe, start: str, split: Split
) -> dict[str, object]:
    """What a continued run must share with this one."""
    from allfocus.train.state import settings

    return settings(
        args.model,
        args.recipe,
        recipe,
        start,
        precision=args.precision,
        data=(args.data, split.files),
        val=(args.val, split.held_files) if args.val else None,
    )


def _watch(args: argparse.Namespace, recipe: Recipe, held_out: Samples) -> Watch:
    from allfocus.train.log import Sheets, can_show
    from allfocus.train.loop import Watch

    net = next(iter(recipe.nets.values()))
    if not args.pictures or not can_show(net):
        return Watch(args.tensorboard)
    return Watch(args.tensorboard, Sheets(net, held_out, args.out), args.pictures)


def _save(args: argparse.Namespace, recipe: Recipe, start: str) -> dict[str, object]:
    """Write what the run was made for; names and fingerprints, those of --model first."""
    from allfocus.train import checkpoint

    files: dict[str, str] = {}
    for name, net in recipe.saved.items():
        path = args.out / f"{name}.safetensors"
        how = _provenance(args, recipe, start)
        spec = checkpoint.save(path, name, net.to("cpu"), weights=how, license=args.license)
        files[str(path)] = spec.weights_sha256
    (path, sha256), *others = files.items()
    return {"weights": path, "sha256": sha256, "others": dict(others)}


def _validate(recipe: Recipe, held_out: Samples, crops: int) -> dict[str, object]:
    """What there is to say about held-out crops: of pictures, or the losses alone."""
    from allfocus.train.loop import held_out_losses
    from allfocus.train.models.base import Deblurrer
    from allfocus.train.validate import validate

    net = next(iter(recipe.nets.values()))
    if isinstance(net, Deblurrer) and held_out.has_sharp:
        report = validate(net, held_out, crops)
        return {**asdict(report), "line": report.line()}
    losses = held_out_losses(recipe, held_out, crops)
    said = ", ".join(f"{name} {value:.5f}" for name, value in losses.items())
    return {"losses": losses, "line": f"losses on held-out crops: {said}"}


def _line(summary: dict[str, object]) -> str:
    validation = summary["validation"]
    assert isinstance(validation, dict)
    return f"{summary['weights']}: {validation['line']}"


def _provenance(args: argparse.Namespace, recipe: Recipe, start: str) -> str:
    plan = recipe.plan
    numbers = range(1, plan.stages + 1)
    stages = " + ".join(str(plan.stage_steps(stage)) for stage in numbers)
    which = f" (stages 1-{plan.stages})" if plan.stages > 1 else ""
    how = f"trained {stages} steps{which} of {plan.batch} crops of {plan.crop}x{plan.crop}"
    how += f", {args.precision}, seed {plan.seed}"
    how += f", weights averaged with decay {plan.ema:g}" if plan.ema else ""
    return ". ".join(
        filter(None, (how, _kind(args.recipe, recipe), recipe.remark, start, args.note))
    )


def _kind(name: str, recipe: Recipe) -> str:
    """The recipe in words, with what was chosen otherwise; nothing for a paper's as it is."""
    choices = ", ".join(_choices(recipe))
    if name == "plain":
        return f"plain recipe with {choices}" if choices else "plain recipe"
    return f"the paper's recipe with {choices}" if choices else ""


def _choices(recipe: Recipe) -> list[str]:
    """What is not as the recipe has it by itself, as options of the command."""
    plan, paper, options = recipe.plan, recipe.paper, recipe.options
    values = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in _TOLD}
    chosen = {name: value for name, value in values.items() if value != getattr(paper, name)}
    chosen |= {name: getattr(options, name) for name in options.given()}
    return sorted(_option(name, value) for name, value in chosen.items())


def _option(name: str, value: object) -> str:
    name = {"learning_rate": "lr"}.get(name, name)
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    if isinstance(value, tuple):
        return f"--{name} {','.join(map(str, value))}"
    if isinstance(value, float):
        return f"--{name} {value:g}"
    return f"--{name} {Path(str(value)).name}"  # of a file its name alone: folders are private


if __name__ == "__main__":
    sys.exit(main())
