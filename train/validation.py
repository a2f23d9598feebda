"""How a run does on held-out crops, now and then and at its end: `validation.csv`, and the best
weights so far. More steps on few pictures may make a net worse on others.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from allfocus.runtime.files import publish, writing
from allfocus.train.data import Samples
from allfocus.train.loop import held_out_losses
from allfocus.train.models.base import Deblurrer
from allfocus.train.recipe import Recipe
from allfocus.train.validate import validate

FILE = "validation.csv"
_SCORE = "score"  # the higher, the better
_writing = partial(
    writing,
    advice="the last saved state is kept. Free some space and give the same command again",
)


class Validation:
    """A Look at the first `crops` samples of what is held out.

    The figure that the best is told by is the PSNR over all pixels, in dB; for nets that make no
    picture minus the sum of the losses. `save(step)` writes the nets as they are, where they are
    the best so far of several looks. A run that begins with weights that are `given` is looked at
    before its first step too: what it was given may stay the best.
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
        save: Callable[[int], object],
    ) -> None:
        self.every = every if every < recipe.steps else 0
        self._recipe, self._samples, self._crops = recipe, samples, crops
        self._table, self._given, self._save = table, given, save
        self._rows: list[dict[str, str]] = []
        self._told: dict[str, Any] = {}

    def begin(self, first: int) -> None:
        """See Look: what was found at later steps will be found anew."""
        if self._table.is_file() and first:
            text = self._table.read_text(encoding="utf-8")
            rows = csv.DictReader(text.splitlines())
            self._rows = [row for row in rows if _is_whole(row) and int(row["step"]) <= first]
        if self.every and self._given and not first:
            self.write(0)

    def write(self, step: int) -> Mapping[str, float]:
        """See Look; also what `told` gives."""
        self._told = self._measure()
        figures: dict[str, float] = self._told.pop("figures")
        self._rows = [row for row in self._rows if int(row["step"]) < step]
        self._rows.append({"step": str(step), **{k: f"{v:.6g}" for k, v in figures.items()}})
        if self.every and self.best == (step, float(self._rows[-1][_SCORE])):
            self._save(step)
        with (
            _writing(self._table),
            publish(self._table, durable=True) as draft,
            draft.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self._rows[-1], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self._rows)
        return {f"validation/{name}": value for name, value in figures.items()}

    @property
    def told(self) -> dict[str, Any]:
        """What the last look found, for the report."""
        return self._told

    @property
    def best(self) -> tuple[int, float] | None:
        """(step, score) of the best so far, the first of equals; None where none are kept."""
        if not self.every:
            return None
        row = max(self._rows, key=lambda row: float(row[_SCORE]))
        return int(row["step"]), float(row[_SCORE])

    def _measure(self) -> dict[str, Any]:
        net = next(iter(self._recipe.nets.values()))
        if isinstance(net, Deblurrer) and self._samples.has_sharp:
            report = validate(net, self._samples, self._crops)
            after = report.whole.after
            assert after is not None
            figures = {"psnr_before": report.whole.before, "psnr": after, "map_mae": report.map_mae}
            known = {name: value for name, value in figures.items() if value is not None}
            return {**asdict(report), "line": report.line(), "figures": {**known, _SCORE: after}}
        losses = held_out_losses(self._recipe, self._samples, self._crops)
        said = ", ".join(f"{name} {value:.5f}" for name, value in losses.items())
        return {
            "losses": losses,
            "line": f"losses on held-out crops: {said}",
            "figures": {**losses, _SCORE: -sum(losses.values())},
        }


def _is_whole(row: Mapping[str, str | None]) -> bool:
    """Whether a row is one that was written here."""
    try:
        return int(row.get("step") or "") >= 0 and math.isfinite(float(row.get(_SCORE) or ""))
    except ValueError:
        return False
