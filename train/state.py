"""A run's state on disk, so that a run killed at any step goes on where it was.

Random numbers need none: samples depend on (seed, index), a step's own on (seed, step).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from allfocus.runtime.errors import CheckpointError
from allfocus.runtime.files import publish
from allfocus.train.average import Average
from allfocus.train.fingerprint import Files, fingerprint, rendering
from allfocus.train.recipe import Options, Plan, Recipe

_HELD = frozenset({"nets", "optimizers", "step", "run"})  # what every state has
# Settings that older states do not name:
_ADDED = ("precision", "val", "data_files", "val_files", "data_rendered", "val_rendered")
_FILES = {  # their fingerprints say nothing to anybody
    "data_files": "pictures of --data were added, removed or changed",
    "val_files": "pictures to validate on were added, removed or changed",
}
_LENGTH = {"total", "scale", "epochs"}  # what the learning rate goes by, from the first step on


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
    with publish(path, durable=True) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            said = str(error).splitlines()[0]
            raise OSError(errno.ENOSPC, f"the disk is full, or fails ({said})") from error


def load_state(path: Path, recipe: Recipe, average: Average | None, run: dict[str, Any]) -> int:
    """Load a state into the recipe's nets and optimizers, and the average; returns the next step.

    Raises CheckpointError where the state was written by a run with other settings, or is damaged.
    """
    state = _whole(path, _read(path))
    _check_settings(path, state["run"], run)
    for name, net in recipe.modules.items():
        net.load_state_dict(state["nets"][name])
    for name, optimizer in recipe.optimizers.items():
        optimizer.load_state_dict(state["optimizers"][name])
    if average:
        average.load(state["average"])
    step: int = state["step"]
    return step


def _read(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged one can raise any: KeyError, UnpicklingError ...
        first = str(error).partition("\n")[0]
        raise _damaged(path, f"{type(error).__name__}: {first}") from None


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: not the state of a run, damaged or cut short ({why}); remove it to start the run "
        "anew, or give another --out"
    )


def settings(
    model: str,
    kind: str,
    recipe: Recipe,
    start: str,
    *,
    precision: str,
    data: tuple[Path, Files],
    val: tuple[Path, Files] | None,
) -> dict[str, Any]:
    """What must not change between a run and its continuation, as plain values.

    `data` and `val` are folders with the files that are used of them. What rendered ones say of
    themselves stands apart from the files' fingerprint, so that older runs on them still go on.
    """
    return {
        "model": model,
        "data": data[0].name,
        "start": start,
        "precision": precision,
        "val": val[0].name if val else "",
        "data_files": fingerprint(*data),
        "val_files": fingerprint(*val) if val else "",
        "data_rendered": rendering(data[1]),
        "val_rendered": rendering(val[1]) if val else "",
        **_plain(kind, recipe.plan, recipe.options),
    }


def _plain(kind: str, plan: Plan, options: Options) -> dict[str, Any]:
    values = {"recipe": kind, **asdict(plan), **asdict(options)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _movable(values: dict[str, Any]) -> dict[str, Any]:
    """Settings in which a file has its name alone: it may be moved between two goes. Whether a
    teacher is the same, `start` tells by its weights.
    """
    teacher, vgg = values.get("teacher"), values.get("vgg")
    return {
        **values,
        **({"teacher": "given"} if teacher else {}),
        **({"vgg": Path(vgg).name} if vgg else {}),
    }


def _check_settings(path: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """What a state of an earlier version does not name was at its default, or is not known."""
    unknown = {name: now[name] for name in _ADDED if name in now}
    then = _movable({**_plain("paper", Plan(), Options()), **unknown, **then})
    now = _movable(now)
    different = [(k, then.get(k), now.get(k)) for k in {**then, **now} if then.get(k) != now.get(k)]
    if different:
        said = "; ".join(
            _FILES.get(k, f"{k}: {old!r} then, {new!r} now") for k, old, new in different
        )
        weights = path.parent / f"{now['model']}.safetensors"
        longer = {k for k, _, _ in different} <= _LENGTH | set(_FILES) and weights.is_file()
        onward = f" that begins with what this one has learnt: --init {weights}" if longer else ""
        raise CheckpointError(
            f"{path}: this run was started with other settings ({said}); give the same ones, or "
            f"another --out for a new run{onward}"
        )


def _whole(path: Path, state: Any) -> dict[str, Any]:
    """A state, if it is one."""
    lacking = sorted(_HELD - set(state)) if isinstance(state, Mapping) else sorted(_HELD)
    if lacking:
        raise _damaged(path, f"without {', '.join(lacking)}")
    return dict(state)
