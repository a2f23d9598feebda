"""Train a net by its paper's recipe: `python train/train.py --model didanet --data DIR`.

DIR holds sharp photos (blurred on the fly) or pairs; see train/data.py. A run killed at any step
goes on with the same command. Writes `NAME.safetensors`, with the Spec inside, into --out.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from allfocus.runtime.command import positive, script
    from allfocus.runtime.errors import AllfocusError, UsageError
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[train]"')

if TYPE_CHECKING:
    import torch

    from allfocus.train.data import Batch, Samples
    from allfocus.train.models.didanet import DidANet
    from allfocus.train.recipe import Plan

SAVE_SECONDS = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", default="didanet", help="a DID-ANet variant (default didanet)")
    parser.add_argument("--data", type=Path, required=True, help="folder of photos or pairs")
    parser.add_argument("--val", type=Path, help="folder to validate on; default: one photo in ten")
    parser.add_argument("--out", type=Path, default=Path("runs/didanet"), help="the run's folder")
    parser.add_argument(
        "--epochs", type=_numbers, default=(400, 200, 400), help="of the stages (paper: 400,200,400)"
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
    from allfocus.train.models import build
    from allfocus.train.models.didanet import DidANet
    from allfocus.train.synthetic import Recipe
    from allfocus.train.validate import validate

    torch.manual_seed(args.seed)
    net = build(args.model)
    if not isinstance(net, DidANet):
        raise UsageError(f"{args.model}: there is no recipe for it yet; known: didanet and variants")
    plan = _plan(args)
    recipe = Recipe(max_radius=net.max_radius)
    samples, held_out = _open(args, plan, recipe)
    device = _device(args.device)
    seconds = _fit(args, plan, net, samples, device)
    net.to("cpu", memory_format=torch.contiguous_format)
    report = validate(net, held_out, args.val_crops)
    path = args.out / f"{args.model}.safetensors"
    spec = checkpoint.save(
        path, args.model, net, weights=_provenance(args, plan), license=args.license
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
    return tuple(positive(part) for part in text.split(","))


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


def _open(args: argparse.Namespace, plan: Plan, recipe: object) -> tuple[Samples, Samples]:
    """Training samples, and held-out ones drawn with another seed."""
    from allfocus.train import data
    from allfocus.train.synthetic import Recipe

    assert isinstance(recipe, Recipe)
    samples = data.open_folder(args.data, plan.crop, plan.seed, recipe)
    side = max(plan.crop, 128) if args.val else plan.crop
    if args.val:
        return samples, data.open_folder(args.val, side, plan.seed + 1, recipe)
    return data.hold_out(samples, plan.seed + 1)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch sees no CUDA GPU; use --device cpu")
    return device


def _fit(
    args: argparse.Namespace, plan: Plan, net: DidANet, samples: Samples, device: torch.device
) -> float:
    """Train `net` in place from wherever the run's state is; returns the seconds it took."""
    import torch
    from tqdm import tqdm

    from allfocus.train.data import batches
    from allfocus.train.state import load_state, save_state, settings

    net.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(net.parameters(), plan.learning_rate, (0.9, 0.999), 1e-8)
    state, agreed = args.out / "state.pt", settings(args.model, args.data, plan)
    first = load_state(state, net, optimizer, agreed) if state.is_file() else 0
    source = batches(
        samples,
        start=first,
        stop=plan.steps,
        batch=plan.batch,
        max_radius=net.max_radius,
        workers=args.workers,
    )
    began = saved = time.monotonic()
    log = _Log(args.out / "log.csv", first)
    bar = tqdm(source, total=plan.steps, initial=first, unit="step", disable=None)
    for step, batch in enumerate(bar, start=first):
        value, parts = _step(net, optimizer, _to(batch, device), plan, step, args.precision)
        log.write(step, plan.stage(step), value, parts)
        bar.set_postfix_str(f"stage {plan.stage(step)} loss {value:.5f}")
        if time.monotonic() - saved > SAVE_SECONDS or step + 1 == plan.steps:
            save_state(state, net, optimizer, step + 1, agreed)
            saved = time.monotonic()
    return time.monotonic() - began


def _step(
    net: DidANet,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    plan: Plan,
    step: int,
    precision: str,
) -> tuple[float, dict[str, float]]:
    import torch

    from allfocus.train.recipe import loss

    stage = plan.stage(step)
    net.estimator.requires_grad_(stage < 3)
    net.restorer.depth = plan.depth(step, net.config.blocks)
    for group in optimizer.param_groups:
        group["lr"] = plan.rate(step)
    with torch.autocast(batch.blurry.device.type, torch.bfloat16, enabled=precision == "bf16"):
        total, parts = loss(net, batch, stage, plan.offset)
    value = float(total.detach())
    if not math.isfinite(value):
        raise AllfocusError(
            f"step {step}: the loss is {value}; the last saved state is kept. Lower --lr, or look "
            "at the data around this step"
        )
    optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    net.restorer.depth = net.config.blocks
    return value, parts


def _to(batch: Batch, device: torch.device) -> Batch:
    import torch

    from allfocus.train.data import Batch

    moved = [
        t.to(device, memory_format=torch.channels_last, non_blocking=True)
        for t in (batch.blurry, batch.sharp, batch.defocus)
    ]
    return Batch(*moved, has_map=batch.has_map)


class _Log:
    """`log.csv`: one row a step; rows past the resumed step are dropped."""

    columns = ("step", "stage", "loss", "deblur", "map", "reevaluation")

    def __init__(self, path: Path, first: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        if first and path.is_file():
            with path.open(newline="", encoding="utf-8") as old:
                rows = [row for row in csv.reader(old) if row[0].isdecimal() and int(row[0]) < first]
        self._file = path.open("w", newline="", encoding="utf-8", buffering=1)
        self._writer = csv.writer(self._file)
        self._writer.writerow(self.columns)
        self._writer.writerows(rows)

    def write(self, step: int, stage: int, loss: float, parts: dict[str, float]) -> None:
        figures = (f"{parts[c]:.6g}" if c in parts else "" for c in self.columns[3:])
        self._writer.writerow((step, stage, f"{loss:.6g}", *figures))


def _provenance(args: argparse.Namespace, plan: Plan) -> str:
    how = f"trained {plan.steps} steps of {plan.batch} crops of {plan.crop}x{plan.crop}"
    return f"{how}, three stages, {args.precision}, seed {plan.seed}. {args.note}".strip()


if __name__ == "__main__":
    sys.exit(main())
