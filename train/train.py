"""Train a net by its paper's recipe: `python train/train.py --model didanet --data DIR`.

DIR holds sharp photos (blurred on the fly) or pairs; see train/data.py. A run killed at any step
goes on with the same command. Writes `NAME.safetensors`, with the Spec inside, into --out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from allfocus.runtime.command import not_negative, positive, script
    from allfocus.runtime.errors import AllfocusError
    from allfocus.runtime.files import check_folder, publish, remove_drafts
    from allfocus.train.train_options import add_recipe_options, options_of, plan_of, seed, widths
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[train]"')

if TYPE_CHECKING:
    import torch

    from allfocus.train.data import Samples
    from allfocus.train.loop import Watch
    from allfocus.train.recipe import Recipe
    from allfocus.train.split import Split

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
    parser.add_argument("--val", type=Path, help="folder to validate on; default: one scene in ten")
    parser.add_argument(
        "--net",
        type=widths,
        metavar="KEY=N,...",
        help="other widths and depths: features=48,blocks=8",
    )
    parser.add_argument(
        "--freeze", nargs="+", metavar="PATTERN", help="parameters that stay: 'estimator.*'"
    )
    parser.add_argument("--init", type=Path, help="weights to start from (fine-tuning)")
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
    from allfocus.train.tf32 import tf32

    split = open_split(args.data, args.val, recipe, Decoded(args.cache))
    with tf32(args.precision == "tf32"):
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
    from allfocus.train.provenance import provenance

    files: dict[str, str] = {}
    for name, net in recipe.saved.items():
        path = args.out / f"{name}.safetensors"
        how = provenance(args, recipe, start)
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


if __name__ == "__main__":
    sys.exit(main())
