"""Train a net by its paper's recipe: `python train/train.py --model didanet --data DIR`.

DIR holds sharp photos (blurred on the fly) or pairs; see train/data.py. A run killed at any step
goes on with the same command. Writes `NAME.safetensors`, with the Spec inside, into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from allfocus.runtime.command import not_negative, positive, script
    from allfocus.runtime.errors import AllfocusError
    from allfocus.runtime.files import check_folder, publish, remove_drafts
    from allfocus.train.train_options import (
        add_recipe_options,
        given_weights,
        options_of,
        plan_of,
        seed,
        widths,
    )
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[train]"')

if TYPE_CHECKING:
    import torch

    from allfocus.train.data import Samples
    from allfocus.train.recipe import Recipe
    from allfocus.train.split import Split
    from allfocus.train.validation import Validation
    from allfocus.train.watch import Watch

_NO_MEMORY = ("can't allocate memory", "out of memory", "DataLoader worker")
_PATIENCE = 8.0  # seconds that a run's data workers live on when it is killed, with its lock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
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
    parser.add_argument(
        "--val",
        type=Path,
        help="folder to validate on; default: --data's own val split, or one scene in ten",
    )
    parser.add_argument(
        "--net",
        type=widths,
        metavar="KEY=N,...",
        help="other widths and depths: features=48,blocks=8",
    )
    parser.add_argument(
        "--freeze", nargs="+", metavar="PATTERN", help="parameters that stay: 'estimator.*'"
    )
    init = "weights to start from (fine-tuning), or the name of a model: the package's own"
    parser.add_argument("--init", type=given_weights, metavar="FILE|NAME", help=init)
    parser.add_argument("--out", type=Path, help="the run's folder (default runs/MODEL)")
    add_recipe_options(parser)
    parser.add_argument("--seed", type=seed, default=0)
    precision = "tf32: fp32 but for GPUs' products (fp32); bf16: autocast"
    parser.add_argument(
        "--precision", choices=("fp32", "tf32", "bf16"), default="fp32", help=precision
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    parser.add_argument(
        "--workers", type=not_negative, default=1, help="processes that make samples"
    )
    parser.add_argument("--val-crops", type=positive, default=64)
    every = "steps between looks at --val-crops held-out crops (%(default)s); the best weights so "
    parser.add_argument(
        "--val-every",
        type=not_negative,
        default=5000,
        help=f"{every}far are kept in OUT/MODEL-best.safetensors; 0: at the end alone",
    )
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


def run(args: argparse.Namespace) -> int:
    """Train, validate, write the checkpoints and the report."""
    try:
        return _run(args)
    except (MemoryError, RuntimeError) as error:
        if not _short_of_memory(error):
            raise
        told = str(error).strip().partition("\n")[0] or "no memory is left"
        raise AllfocusError(
            f"{told}: use a smaller --batch or --crop, fewer --workers, or a smaller net; what "
            "was saved is kept"
        ) from error


def _short_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Of the host, of a GPU, or such that the system ended a worker."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY)


def _run(args: argparse.Namespace) -> int:
    import torch

    from allfocus.train.alone import alone
    from allfocus.train.loop import pick_device
    from allfocus.train.outputs import every_file
    from allfocus.train.recipes import recipe_of
    from allfocus.train.train_start import check_freeze, start_net

    args.out = args.out or Path("runs") / args.model
    check_folder(args.out)
    if args.cache is not None:
        check_folder(args.cache, "--cache")
    device = pick_device(args.device)
    torch.manual_seed(args.seed)
    net, start = start_net(args)
    kind = recipe_of(args.model, net, args.recipe)
    recipe = kind(args.model, net, plan_of(args, kind.paper), options_of(args))
    check_freeze(args, recipe)
    with alone(args.out, "train", patience=_PATIENCE):
        remove_drafts(every_file(args, recipe))  # of a run that was killed
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
    from allfocus.train.outputs import save
    from allfocus.train.split import open_split
    from allfocus.train.tf32 import tf32

    split = open_split(args.data, args.val, recipe, Decoded(args.cache))
    validation = _validation(args, recipe, start, split.held_out)
    with tf32(args.precision == "tf32"):
        taken = fit(
            recipe,
            split.samples,
            args.out,
            run=_settings(args, recipe, start, split),
            device=device,
            precision=args.precision,
            workers=args.workers,
            watch=_watch(args, recipe, split.held_out, validation),
        )
        saved = save(args, recipe, start)
        validation.write(recipe.steps)
    summary = {
        **saved,
        "steps": recipe.steps,
        "seconds_of_this_go": round(taken.seconds, 1),
        "of_which_waiting_for_data": round(taken.waiting, 1),
        "validation": validation.told,
        "best": validation.best,
    }
    with publish(args.out / "report.json", durable=True) as draft:
        draft.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


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
        val=(args.val or args.data, split.held_files) if split.held_files else None,
    )


def _validation(
    args: argparse.Namespace, recipe: Recipe, start: str, held_out: Samples
) -> Validation:
    from allfocus.train.outputs import Best
    from allfocus.train.validation import FILE, Validation

    return Validation(
        recipe,
        held_out,
        args.out / FILE,
        crops=args.val_crops,
        every=args.val_every,
        given=args.init is not None,
        store=Best(args, recipe, start),
    )


def _watch(
    args: argparse.Namespace, recipe: Recipe, held_out: Samples, validation: Validation
) -> Watch:
    from allfocus.train.sheets import Sheets, can_show
    from allfocus.train.watch import Watch

    net = next(iter(recipe.nets.values()))
    if not args.pictures or not can_show(net):
        return Watch(args.tensorboard, [validation])
    sheets = Sheets(net, held_out, args.out, args.pictures)
    return Watch(args.tensorboard, [validation, sheets])


def _line(summary: dict[str, object]) -> str:
    validation = summary["validation"]
    assert isinstance(validation, dict)
    line, best = f"{summary['weights']}: {validation['line']}", summary["best"]
    if isinstance(best, dict) and best["step"] != summary["steps"]:
        line += f"; better at step {best['step']}: {best['weights']}"
    return line


if __name__ == "__main__":
    sys.exit(main())
