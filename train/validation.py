"""How a run does on held-out crops, now and then and at its end: `validation.csv`, and the best
weights so far. More steps on few pictures may make a net worse on others.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from allfocus.runtime.files import publish
from allfocus.train.data import PairSamples, Samples
from allfocus.train.log import writing_of_run
from allfocus.train.loop import held_out_losses
from allfocus.train.models.base import Deblurrer
from allfocus.train.recipe import Recipe
from allfocus.train.validate import validate

FILE = "validation.csv"
_SCORE = "score"  # the higher, the better


class Store(Protocol):
    """Where the best weights so far are kept."""

    path: Path

    def save(self, step: int) -> None:
        """Keep the nets as they are at `step`."""

    def step(self) -> int | None:
        """Of which step they are; None where there are none."""


class Validation:
    """A Look at the first `crops` samples of what is held out.

    The figure that the best is told by is the PSNR over all pixels, in dB; for nets that make no
    picture minus the sum of the losses, where these tell how good a net is. The best of several
    looks is kept in `store`. A run that begins with weights that are `given` is looked at before
    its first step too: what it was given may stay the best.
    """

    def __init__(
        self,
        recipe: Recipe,
        samples: Samples,
        table: Path,
        *,
        crops: int,
        every: int,
        given: bool,
        store: Store,
    ) -> None:
        self.every = every if every < recipe.steps else 0
        self.at_end = False  # by whoever has written the final weights
        self._recipe, self._samples, self._crops = recipe, samples, crops
        self._table, self._given, self._store = table, given, store
        self._rows: list[dict[str, str]] = []
        self._best: tuple[int, float] | None = None
        self.told: dict[str, Any] = {}  # what the last look found, for the report

    def begin(self, first: int) -> None:
        """See Look: what was found at later steps, or on others, will be found anew."""
        if self._table.is_file() and first:
            text = self._table.read_text(encoding="utf-8-sig", errors="replace")
            rows = csv.DictReader(text.splitlines())
            self._rows = [row for row in rows if self._is_ours(row) and int(row["step"]) <= first]
        if self.every and self._rows:
            there = self._store.step()
            scores = {int(row["step"]): row.get(_SCORE) for row in self._rows}
            score = scores.get(-1 if there is None else there)
            self._best = (there, float(score)) if there is not None and score else None
        if self.every and self._given and not first:
            self.write(0)

    def write(self, step: int) -> Mapping[str, float]:
        """See Look; also what `told` gives."""
        self.told = self._measure()
        figures: dict[str, float] = self.told.pop("figures")
        row = {"step": str(step), **{k: f"{v:.6g}" for k, v in figures.items()}}
        self._rows = [row for row in self._rows if int(row["step"]) < step] + [row]
        if self.every and _SCORE in row:
            self._keep(step, float(row[_SCORE]))
        with (
            writing_of_run(self._table),
            publish(self._table, durable=True) as draft,
            draft.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, row, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self._rows)
        return {f"validation/{name}": value for name, value in figures.items()}

    def _keep(self, step: int, score: float) -> None:
        """The nets as they are, where none before were better."""
        if self._best is None or score >= self._best[1]:
            self._store.save(step)
            self._best = step, score

    @property
    def best(self) -> dict[str, Any] | None:
        """The best weights so far, for the report; None where none are kept."""
        if self._best is None:
            return None
        step, score = self._best
        return {"weights": str(self._store.path), "step": step, "score": score}

    def _measure(self) -> dict[str, Any]:
        net, seen = next(iter(self._recipe.nets.values())), {"crops": float(self._crops)}
        if isinstance(net, Deblurrer) and self._samples.has_sharp:
            # Drawn samples have a truth that lies over the blurry picture all the same.
            deform = self._recipe.displaced and isinstance(self._samples, PairSamples)
            report = validate(net, self._samples, self._crops, deform=deform)
            after = report.whole.after
            assert after is not None
            figures = {"psnr_before": report.whole.before, "psnr": after, "map_mae": report.map_mae}
            known = {name: value for name, value in figures.items() if value is not None}
            told = {**seen, **known, _SCORE: after}
            return {**asdict(report), "line": report.line(), "figures": told}
        losses = held_out_losses(self._recipe, self._samples, self._crops)
        said = ", ".join(f"{name} {value:.5f}" for name, value in losses.items())
        score = {_SCORE: -sum(losses.values())} if self._recipe.losses_judge else {}
        return {
            "losses": losses,
            "line": f"losses on held-out crops: {said}",
            "figures": {**seen, **losses, **score},
        }

    def _is_ours(self, row: Mapping[str, str | None]) -> bool:
        """Whether a row was written here, of as many crops: others' figures compare with none."""
        try:
            crops, score = float(row.get("crops") or ""), float(row.get(_SCORE) or 0)
            return int(row.get("step") or "") >= 0 and crops == self._crops and math.isfinite(score)
        except ValueError:
            return False
