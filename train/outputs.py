"""The files of a run: its weights, those of its best step, and all else that it writes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from allfocus.runtime.errors import CheckpointError
from allfocus.train import checkpoint
from allfocus.train.provenance import best_step, provenance
from allfocus.train.recipe import Recipe
from allfocus.train.sheets import sheet_file
from allfocus.train.validation import FILE


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


class Best:
    """The weights of a run's best step so far, as `Validation` keeps them."""

    def __init__(self, args: argparse.Namespace, recipe: Recipe, start: str) -> None:
        self.path = weights_file(args.out, next(iter(recipe.saved)), best=True)
        self._save = partial(save, args, recipe, start)

    def save(self, step: int) -> None:
        """Write the nets as they are at `step`."""
        self._save(step)

    def step(self) -> int | None:
        """Of which step the file says that it is; None where there is none that can be read."""
        try:
            return best_step(checkpoint.load_any(self.path)[1].weights)
        except CheckpointError:
            return None


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
