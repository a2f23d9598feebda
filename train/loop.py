"""The training loop: steps, log, saved state. It drives any Recipe."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.train.average import Average
from allfocus.train.data import Batch, Samples, batches
from allfocus.train.log import Log
from allfocus.train.recipe import Recipe
from allfocus.train.state import load_state, save_state
from allfocus.train.tint import Tinted
from allfocus.train.watch import Watch

SAVE_SECONDS = 120.0
IDLE_STEPS = 20  # of a go, without any gradient: no chance, such as samples that are all sharp
_LONGEST_GRADIENT = 1.0  # longer ones are shortened to this, in all recipes; no paper speaks of it


class Taken(NamedTuple):
    """Seconds of a go, and those of them that were spent waiting for data."""

    seconds: float
    waiting: float


def pick_device(name: str) -> torch.device:
    """The device `name`, or for "auto" a GPU where torch sees one; raises UsageError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch("cpu|cuda(:[0-9]+)?", name):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return torch.device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise UsageError(f"--device {name}: torch sees no CUDA GPU; use --device cpu")
    number = int(name.partition(":")[2] or 0)  # torch would take 1000 for -24
    if number >= count:
        known = ", ".join(f"cuda:{index}" for index in range(count))
        raise UsageError(f"--device {name}: torch sees {count} CUDA GPUs; expected {known}")
    return torch.device(name)


def fit(
    recipe: Recipe,
    samples: Samples | Tinted,
    out: Path,
    *,
    run: dict[str, Any],
    device: torch.device,
    precision: str,
    workers: int,
    watch: Watch,
) -> Taken:
    """Train the recipe's nets in place from wherever the state in `out` is; returns the time it
    took. Where weights are averaged, the nets end up with the average.

    The state is written every two minutes and at the end; `run` is what a continuation must share.
    Raises AllfocusError where a loss or a gradient is no longer finite, UsageError where nothing is
    learnt, CheckpointError where the state belongs to a run with other settings.
    """
    for module in recipe.modules.values():
        module.to(device).train()
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs
    average = Average(recipe.nets, recipe.plan.ema) if recipe.plan.ema else None
    state = out / "state.pt"
    first = load_state(state, recipe, average, run) if state.is_file() else 0
    source = batches(
        samples,
        start=first,
        stop=recipe.steps,
        batch=recipe.plan.batch,
        max_radius=recipe.max_radius,
        workers=workers,
    )
    began = saved = time.monotonic()
    longest = 0.0
    log = Log(out, recipe.parts, first, events=watch.events)
    for look in watch.looks:
        look.begin(first)
    waiting = _Waiting(source)
    bar = tqdm(waiting, total=recipe.steps, initial=first, unit="step", disable=None)
    for step, batch in enumerate(bar, start=first):
        value, parts, length = _step(recipe, _to(batch, device), step, precision)
        longest = max(longest, length)
        if step + 1 == first + IDLE_STEPS and longest == 0:
            raise UsageError(_idle_text(next(iter(recipe.nets))))
        if average:
            average.update(recipe.nets, step)
        log.write(step, recipe.stage(step), value, parts)
        bar.set_postfix_str(f"stage {recipe.stage(step)} loss {value:.5f}")
        due = watch.due(step + 1, recipe.steps)
        if due:
            recipe.finish()  # as they are to be used; the next step prepares them again
            with average.shown(recipe.nets) if average else nullcontext():
                for look in due:
                    log.show(step, look.write(step + 1))
        # After the looks: a run that is killed in one goes on before it, and looks again.
        if time.monotonic() - saved > SAVE_SECONDS or step + 1 == recipe.steps:
            save_state(state, recipe, average, step + 1, run)
            saved = time.monotonic()
    log.close()
    if average:
        average.put_into(recipe.nets)
    recipe.finish()
    return Taken(time.monotonic() - began, waiting.seconds)


class _Waiting:
    """The batches of a source, and the seconds that were spent waiting for them."""

    def __init__(self, source: Iterator[Batch]) -> None:
        self._source = source
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        while True:
            began = time.monotonic()
            batch = next(self._source, None)
            self.seconds += time.monotonic() - began
            if batch is None:
                return
            yield batch


def _step(
    recipe: Recipe, batch: Batch, step: int, precision: str
) -> tuple[float, dict[str, float], float]:
    """One step of each optimizer whose turn it is: (sum of the losses, their parts, the longest
    gradient's length).
    """
    seed = np.random.SeedSequence([recipe.plan.seed, step]).generate_state(1)
    torch.manual_seed(int(seed[0]))  # dropout's and the like: those of a resumed run are the same
    recipe.prepare(step)
    values: dict[str, float] = {}
    longest = 0.0
    for turn in recipe.turns(step):
        with torch.autocast(batch.blurry.device.type, torch.bfloat16, enabled=precision == "bf16"):
            parts = recipe.losses(step, batch, turn)
        longest = max(longest, _take(recipe, step, turn, parts))
        values |= {name: float(part.detach()) for name, part in parts.items()}
    return sum(values.values()), values, longest


def _take(recipe: Recipe, step: int, turn: str, parts: dict[str, Tensor]) -> float:
    """A step of the optimizer `turn` down the gradient of the parts' sum; that one's length."""
    total = torch.stack([part.float() for part in parts.values()]).sum()
    _check_finite(recipe, step, "the loss", float(total.detach()))
    for optimizer in recipe.optimizers.values():  # others' parameters get gradients too
        optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    optimizer = recipe.optimizers[turn]
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step)
    mine = [p for group in optimizer.param_groups for p in group["params"]]
    length = torch.nn.utils.clip_grad_norm_(mine, _LONGEST_GRADIENT)
    _check_finite(recipe, step, "the gradient's length", float(length))
    optimizer.step()
    return float(length)


def _idle_text(name: str) -> str:
    return (
        f"{IDLE_STEPS} steps, and no loss moves a weight of {name}: nothing is learnt. Expected a "
        "map that learns (a lite net leaves alone what its map calls sharp, and a new one's calls "
        "all so): give data with maps (`allfocus data make-maps`), or start from trained weights "
        "with --init"
    )


def _check_finite(recipe: Recipe, step: int, what: str, value: float) -> None:
    if math.isfinite(value):
        return
    batch = recipe.plan.batch
    raise AllfocusError(
        f"step {step}: {what} is {value}, on the samples {step * batch} to "
        f"{(step + 1) * batch - 1}; what was saved before is kept. Lower --lr, or look at the data "
        "around this step"
    )


@torch.no_grad()  # what a loss keeps for later may be learnt through
def held_out_losses(recipe: Recipe, samples: Samples, crops: int) -> dict[str, float]:
    """Means of the last step's losses over the first `crops` samples, for nets that give no
    picture to look at; all are in training mode afterwards.
    """
    for module in recipe.modules.values():
        module.eval()
    device = next(next(iter(recipe.nets.values())).parameters()).device
    last = recipe.steps - 1
    sums: dict[str, float] = {}
    source = batches(samples, start=0, stop=crops, batch=1, max_radius=recipe.max_radius, workers=0)
    for batch in source:
        parts = recipe.losses(last, _to(batch, device), recipe.turns(last)[-1])
        for name, part in parts.items():
            sums[name] = sums.get(name, 0.0) + float(part) / crops
    for module in recipe.modules.values():
        module.train()
    return sums


def _to(batch: Batch, device: torch.device) -> Batch:
    tensors = {f.name: getattr(batch, f.name) for f in fields(batch)}
    moved: dict[str, Any] = {
        name: tensor.to(device, memory_format=torch.channels_last, non_blocking=True)
        for name, tensor in tensors.items()
        if isinstance(tensor, Tensor)
    }
    return replace(batch, **moved)
