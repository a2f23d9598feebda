"""How weights were trained, in the words that their file and their Spec carry."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from allfocus.train.recipe import Recipe

_BEST = "the best on held-out crops"
# Of a Plan, what a provenance tells in other words: sizes, each stage's steps, seed, average.
_TOLD = {"batch", "crop", "stages", "epochs", "epoch_samples", "scale", "total", "seed", "ema"}


def provenance(
    args: argparse.Namespace, recipe: Recipe, start: str, best: int | None = None
) -> str:
    """Steps, crops, seed and average of a run, its recipe with what was chosen otherwise, what it
    began with (`start`), and the note it was given. `best`: the weights are those of that step.
    """
    plan = recipe.plan
    numbers = range(1, plan.stages + 1)
    stages = " + ".join(str(plan.stage_steps(stage)) for stage in numbers)
    which = f" (stages 1-{plan.stages})" if plan.stages > 1 else ""
    how = f"trained {stages} steps{which} of {plan.batch} crops of {plan.crop}x{plan.crop}"
    how += f", {args.precision}, seed {plan.seed}"
    how += f", weights averaged with decay {plan.ema:g}" if plan.ema else ""
    how += f"; as of step {best}, {_BEST}" if best is not None else ""
    return ". ".join(
        filter(None, (how, _kind(args.recipe, recipe), recipe.remark, start, args.note))
    )


def best_step(weights: str) -> int | None:
    """Of which step, as the best of their run, weights of this provenance are; None of others."""
    known = re.search(f"as of step ([0-9]+), {_BEST}", weights)
    return int(known[1]) if known else None


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
