"""The training loop: steps, log, saved state."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.train.data import Batch, Samples, batches
from allfocus.train.models.didanet import DidANet
from allfocus.train.recipe import Plan, loss
from allfocus.train.state import load_state, save_state

SAVE_SECONDS = 120.0


def pick_device(name: str) -> torch.device:
    """The device `name`, or for "auto" a GPU where torch sees one; raises UsageError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: torch sees no CUDA GPU; use --device cpu")
    return device


def fit(
    net: DidANet,
    samples: Samples,
    plan: Plan,
    out: Path,
    *,
    run: dict[str, Any],
    device: torch.device,
    precision: str,
    workers: int,
) -> float:
    """Train `net` in place from wherever the state in `out` is; returns the seconds it took.

    The state is written every two minutes and at the end; `run` is what a continuation must share.
    Raises AllfocusError where the loss is no longer finite, CheckpointError where the state belongs
    to a run with other settings.
    """
    net.to(device).train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    optimizer = torch.optim.Adam(net.parameters(), plan.learning_rate, (0.9, 0.999), 1e-8)
    state = out / "state.pt"
    first = load_state(state, net, optimizer, run) if state.is_file() else 0
    source = batches(
        samples,
        start=first,
        stop=plan.steps,
        batch=plan.batch,
        max_radius=net.max_radius,
        workers=workers,
    )
    began = saved = time.monotonic()
    log = _Log(out / "log.csv", first)
    bar = tqdm(source, total=plan.steps, initial=first, unit="step", disable=None)
    for step, batch in enumerate(bar, start=first):
        value, parts = _step(net, optimizer, _to(batch, device), plan, step, precision)
        log.write(step, plan.stage(step), value, parts)
        bar.set_postfix_str(f"stage {plan.stage(step)} loss {value:.5f}")
        if time.monotonic() - saved > SAVE_SECONDS or step + 1 == plan.steps:
            save_state(state, net, optimizer, step + 1, run)
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
    blurry, sharp, defocus = (
        tensor.to(device, memory_format=torch.channels_last, non_blocking=True)
        for tensor in (batch.blurry, batch.sharp, batch.defocus)
    )
    return Batch(blurry, sharp, defocus, batch.has_map)


class _Log:
    """`log.csv`: one row a step; rows past the resumed step are dropped."""

    columns = ("step", "stage", "loss", "deblur", "map", "reevaluation")

    def __init__(self, path: Path, first: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = []
        if first and path.is_file():
            with path.open(newline="", encoding="utf-8") as old:
                rows = [
                    row for row in csv.reader(old) if row[0].isdecimal() and int(row[0]) < first
                ]
        self._file = path.open("w", newline="", encoding="utf-8", buffering=1)
        self._writer = csv.writer(self._file)
        self._writer.writerow(self.columns)
        self._writer.writerows(rows)

    def write(self, step: int, stage: int, loss: float, parts: dict[str, float]) -> None:
        figures = (f"{parts[c]:.6g}" if c in parts else "" for c in self.columns[3:])
        self._writer.writerow((step, stage, f"{loss:.6g}", *figures))
