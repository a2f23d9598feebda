"""The files of a run: its weights, those of its best step, and all else that it writes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from allfocus.train import checkpoint
from allfocus.train.provenance import provenance
from allfocus.train.recipe import Recipe
from allfocus.train.sheets import sheet_file
from allfocus.train.validation import FILE, Validation


def weights_file(out: Path, name: str, *, best: bool = False) -> Path:
    """Where a run's weights stand: those of its last step, or the best so far."""
    return out / f"{name}{'-best' if best else ''}.safetensors"


def every_file(args: argparse.Namespace, recipe: Recipe) -> Iterator[Path]:
    """All that a run writes."""
    for name in ("state.pt", "log.csv", "report.json", FILE):
        yield args.out / name
    for name in recipe.saved:
        yield from (weights_file(args.out, name, best=best) for best in (False, True))
    if args.pictures:
        for step in range(args.pictures, recipe.steps + 1, args.pictures):
            yield sheet_file(args.out, step)


def save(
    args: argparse.Namespace, recipe: Recipe, start: str, best: int | None = None
) -> dict[str, object]:
    """Write what the run was made for, as it is at its end or at its step `best`; names and
    fingerprints, those of --model first.
    """
    files: dict[str, str] = {}
    for name, net in recipe.saved.items():
        path = weights_file(args.out, name, best=best is not None)
        how = provenance(args, recipe, start, best)
        spec = checkpoint.save(path, name, net, weights=how, license=args.license)
        files[str(path)] = spec.weights_sha256
    (first, sha256), *others = files.items()
    return {"weights": first, "sha256": sha256, "others": dict(others)}


def best(
    args: argparse.Namespace, recipe: Recipe, validation: Validation
) -> dict[str, object] | None:
    """Which weights were the best on held-out crops, where it was looked more than once."""
    if validation.best is None:
        return None
    step, score = validation.best
    path = weights_file(args.out, next(iter(recipe.saved)), best=True)
    return {"weights": str(path), "step": step, "score": score}
