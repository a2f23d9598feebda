"""A run's state on disk, so that a run killed at any step goes on where it was."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from allfocus.runtime.errors import CheckpointError
from allfocus.runtime.files import publish
from allfocus.train.recipe import Plan


def save_state(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, step: int, run: dict[str, Any]
) -> None:
    """Write everything a resumed run needs; a former state survives a failed write."""
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "run": run}
    with publish(path) as temporary:
        torch.save(state, temporary)


def load_state(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, run: dict[str, Any]
) -> int:
    """Load a state into `net` and `optimizer`; returns the next step.

    Raises CheckpointError where the state was written by a run with other settings.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    different = {k: (state["run"].get(k), v) for k, v in run.items() if state["run"].get(k) != v}
    if different:
        said = "; ".join(f"{k}: {old!r} then, {new!r} now" for k, (old, new) in different.items())
        raise CheckpointError(
            f"{path}: this run was started with other settings ({said}); give the same ones, or "
            "another --out for a new run"
        )
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    step: int = state["step"]
    return step


def settings(model: str, data: Path, plan: Plan, start: str) -> dict[str, Any]:
    """What must not change between a run and its continuation, as plain values."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(plan).items()}
    return {"model": model, "data": data.name, "start": start, **plain}
