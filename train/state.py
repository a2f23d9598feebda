"""A run's state on disk, so that a run killed at any step goes on where it was.

Random numbers need none: samples depend on (seed, index), a step's own on (seed, step).
"""

from __future__ import annotations

import errno
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from allfocus.runtime.errors import CheckpointError
from allfocus.runtime.files import publish
from allfocus.train.average import Average
from allfocus.train.recipe import Options, Plan, Recipe


def save_state(
    path: Path, recipe: Recipe, average: Average | None, step: int, run: dict[str, Any]
) -> None:
    """Write everything a resumed run needs; a former state survives a failed write.

    Raises AllfocusError where the disk is full.
    """
    state = {
        "nets": {name: net.state_dict() for name, net in recipe.modules.items()},
        "optimizers": {name: o.state_dict() for name, o in recipe.optimizers.items()},
        "average": average.states if average else {},
        "step": step,
        "run": run,
    }
    with publish(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            said = str(error).splitlines()[0]
            raise OSError(errno.ENOSPC, f"the disk is full, or fails ({said})") from error


def load_state(path: Path, recipe: Recipe, average: Average | None, run: dict[str, Any]) -> int:
    """Load a state into the recipe's nets and optimizers, and the average; returns the next step.

    Raises CheckpointError where the state was written by a run with other settings.
    """
    state = _current(torch.load(path, map_location="cpu", weights_only=True), recipe)
    _check_settings(path, state["run"], run)
    for name, net in recipe.modules.items():
        net.load_state_dict(state["nets"][name])
    for name, optimizer in recipe.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    if average:
        average.load(state["average"])
    step: int = state["step"]
    return step


def settings(model: str, data: Path, kind: str, recipe: Recipe, start: str) -> dict[str, Any]:
    """What must not change between a run and its continuation, as plain values."""
    return {
        "model": model,
        "data": data.name,
        "start": start,
        **_plain(kind, recipe.plan, recipe.options),
    }


def _plain(kind: str, plan: Plan, options: Options) -> dict[str, Any]:
    values = {"recipe": kind, **asdict(plan), **asdict(options)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _check_settings(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """What a state of an earlier version does not name was at its default."""
    then = {**_plain("paper", Plan(), Options()), **then}
    different = [(k, then.get(k), now.get(k)) for k in {**then, **now} if then.get(k) != now.get(k)]
    if different:
        said = "; ".join(f"{k}: {old!r} then, {new!r} now" for k, old, new in different)
        raise CheckpointError(
            f"{path}: this run was started with other settings ({said}); give the same ones, or "
            "another --out for a new run"
        )


def _current(state: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """A state of version 0.1, which trained one net by one optimizer, in today's form."""
    if "net" not in state:
        return state
    (name,), (optimizer,) = recipe.modules, recipe.optimizers
    new = {"nets": {name: state["net"]}, "optimizers": {optimizer: state["optimizer"]}}
    return {**state, **new, "average": {}}
