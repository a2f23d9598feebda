"""`allfocus bench trade`: decibels against milliseconds on a CPU, of DID-ANet and the lite nets, in
every engine and precision that is here.

Time is of whole calls, frame in to frame out, nothing passed through, in rounds in which all take
turns; quality is that of `allfocus eval` on the built-in set, through the same engine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from allfocus.benchmarks import common
from allfocus.benchmarks.candidates import open_model, the_input
from allfocus.benchmarks.common import QUOTED, size
from allfocus.benchmarks.contenders import Contender, Recipe, opened
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.pairs import SYNTHETIC, DataSet, open_data
from allfocus.benchmarks.schema import Quoted, Stats
from allfocus.benchmarks.scoring import Settings, judge
from allfocus.benchmarks.turns import photo
from allfocus.runtime.artefacts import packaged_onnx, packaged_weights
from allfocus.runtime.catalogue import entry
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.cpus import available_cpus
from allfocus.runtime.ensemble import MAP, Ensemble
from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.files import publish
from allfocus.runtime.spec import Precision, Size

TRADE = "allfocus/trade/3"
MODELS = (
    *("didanet", "didanet-lite", "didanet-nano"),
    *("jdrl-unet-lite", "defocusgan-lite", "sftnet-lite", "apl-lite"),
)
YARDSTICK = "didanet"  # whose eager PyTorch all is compared with
WAYS: tuple[tuple[str, Precision], ...] = (
    ("cpu", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("cpu", "int8"),
    ("openvino", "int8"),
)
# Passes of a self-ensemble and reach in pixels, in the last of WAYS.
MORE: dict[str, tuple[tuple[Ensemble, float | None], ...]] = {
    "didanet-lite": ((MAP, None), (2, None), (4, None), (8, None), (1, 32.0))
}
Field = dict[Recipe, Contender]  # what takes turns, by how it was opened
_PAUSE = 0.02  # seconds before each call, in which the threads of the one before stop spinning
_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")
_MARKS = {"fp32": "o", "bf16": "s", "int8": "^"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model in one engine and precision, of so many passes of a self-ensemble, and with a reach
    in pixels where there is one. The time is a median; ratios are of single rounds."""

    model: str
    engine: str
    precision: str
    passes: Ensemble
    reach: float | None
    milliseconds: float
    times_as_fast: Stats  # as eager PyTorch's `didanet`
    psnr_db: float | None  # None: not judged, being what fp32 is
    lost_db: float | None  # against the model's own fp32

    @property
    def name(self) -> str:
        """For the table."""
        several = "" if self.passes == 1 else f", {self.passes} passes"
        if self.passes == MAP:
            several = ", map of two"
        farther = "" if self.reach is None else f", reach {self.reach:g}"
        return f"{self.engine}, {self.precision}{several}{farther}"


def measure(
    models: Sequence[str], frame: Size, rounds: int
) -> tuple[list[Row], dict[str, str], float]:
    """The rows, what could not be measured and why, and the input's own PSNR."""
    skipped: dict[str, str] = {}
    with ExitStack() as stack:
        field = _open(models, stack, skipped)
        times = _take_turns(field, frame, rounds)
    data = open_data(SYNTHETIC, 8.0)
    quality = {recipe: _quality(recipe, data) for recipe in field if recipe.kind == "runtime"}
    rows = [_row(recipe, field, times, quality) for recipe in field]
    row = judge(the_input(), data, Settings(), lambda *_: None)
    assert row.similarity is not None
    return rows, skipped, row.similarity.psnr_db


def table(rows: Sequence[Row], skipped: dict[str, str], before: float, frame: Size) -> str:
    """Markdown, the paper's own figure first."""
    quoted = _quoted(frame)
    lines = [
        f"| model | engine, precision | PSNR, dB (input {before:.2f}) | lost, dB | ms at {frame} | "
        f"times as fast as eager `{YARDSTICK}` (5th to 95th percentile) |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    if quoted:
        what = f"quoted from the paper: {quoted.hardware}"
        lines.append(f"| `{YARDSTICK}` | {what} | – | – | {1e3 * quoted.seconds:g} | – |")
    for row in rows:
        decibels = "–" if row.psnr_db is None else f"{row.psnr_db:.2f}"
        lost = "–" if row.lost_db is None else f"{row.lost_db:.3f}"
        fast = row.times_as_fast
        lines.append(
            f"| `{row.model}` | {row.name} | {decibels} | {lost} | {row.milliseconds:.0f} | "
            f"{fast.median:.1f} ({fast.p05:.1f} to {fast.p95:.1f}) |"
        )
    lines += ["", *(f"not measured: {what}: {why}" for what, why in skipped.items())]
    return "\n".join(lines).rstrip()


def draw(rows: Sequence[Row], before: float, frame: Size, path: Path) -> None:
    """PSNR against milliseconds, a dot for each row that was judged; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes: Any = figure.add_subplot()
    judged = [row for row in rows if row.psnr_db is not None]
    colours = dict(zip(dict.fromkeys(row.model for row in judged), cycle(_COLOURS)))
    for row in judged:
        axes.plot(row.milliseconds, row.psnr_db, color=colours[row.model], **_mark(row))
    for model, colour in colours.items():
        axes.plot([], [], "o", color=colour, label=model)
    for name, mark in {row.name: _mark(row) for row in judged}.items():
        axes.plot([], [], color="black", label=name, **mark)
    axes.axhline(before, color="grey", linewidth=1, linestyle=":", label="input")
    quoted = _quoted(frame)
    if quoted:
        axes.axvline(1e3 * quoted.seconds, color="grey", linewidth=1, label="paper, GTX 1080 Ti")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds a frame")
    axes.set_ylabel("PSNR on the built-in set, dB")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    with publish(path) as draft:
        figure.savefig(draft, format="png", dpi=120)


def _quoted(frame: Size) -> Quoted | None:
    """The paper's own figure, if it is of frames of that size."""
    quoted = QUOTED.get(YARDSTICK)
    return quoted if quoted and quoted.size == str(frame) else None


def _mark(row: Row) -> dict[str, Any]:
    """The shape tells the precision; it is hollow but for OpenVINO."""
    hollow = {} if row.engine == "OpenVINO, CPU" else {"markerfacecolor": "none"}
    return {"marker": _MARKS[row.precision], "linestyle": "", **hollow}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench trade`."""
    add = parser.add_argument
    add("--models", type=_models, default=MODELS, help=f"(default {','.join(MODELS)})")
    add("--size", type=size, default=Size(600, 400), help="WIDTHxHEIGHT (default %(default)s)")
    add("--rounds", type=positive, default=5, help="of the clock (default %(default)s)")
    add("--out", type=Path, default=Path("runs/trade"), help="folder of trade.json, .md and .png")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure, and write the three files."""
    machine = describe()
    rows, skipped, before = measure(args.models, args.size, args.rounds)
    text = table(rows, skipped, before, args.size)
    body = {
        "schema": TRADE,
        "machine": asdict(finish(machine)),
        "size": str(args.size),
        "rounds": args.rounds,
        "threads": available_cpus(),
        "input_psnr_db": before,
        "rows": [asdict(row) for row in rows],
        "skipped": skipped,
    }
    common.leave(args.out, "trade", body, text)
    draw(rows, before, args.size, args.out / "trade.png")
    print(json.dumps(body) if args.json else text)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("trade", "Quality against time on a CPU.", add_arguments, run, argv)


def _open(models: Sequence[str], stack: ExitStack, skipped: dict[str, str]) -> Field:
    """Eager PyTorch's `didanet`, and every model in every way that works here."""
    field = {_eager(): stack.enter_context(opened(_eager()))}
    for recipe in (recipe for model in models for recipe in _recipes(model)):
        try:
            field[recipe] = stack.enter_context(opened(recipe))
        except AllfocusError as error:
            folder = f"{packaged_onnx(recipe.model).parent}{os.sep}"  # no reader's business
            skipped[f"{recipe.model}, {recipe.label}"] = str(error).replace(folder, "")
    return field


def _eager() -> Recipe:
    return Recipe(
        kind="pytorch",
        model=YARDSTICK,
        backend="cpu",
        threads=available_cpus(),
        weights=str(packaged_weights(YARDSTICK)),
    )


def _exact(model: str) -> Recipe:
    """The way that others of the model are compared with."""
    return Recipe(
        kind="runtime", model=model, backend="cpu", threads=available_cpus(), precision="fp32"
    )


def _recipes(model: str) -> list[Recipe]:
    plain = [replace(_exact(model), backend=engine, precision=kind) for engine, kind in WAYS]
    more = MORE.get(model, ())
    return plain + [replace(plain[-1], ensemble=passes, reach=reach) for passes, reach in more]


def _take_turns(field: Field, frame: Size, rounds: int) -> dict[Recipe, list[float]]:
    """Milliseconds of every round but the first, which warms up."""
    picture = photo(frame)
    times: dict[Recipe, list[float]] = {recipe: [] for recipe in field}
    for _ in tqdm(range(1 + rounds), desc="rounds", disable=None):
        for recipe, contender in field.items():
            time.sleep(_PAUSE)
            times[recipe].append(contender.run(picture)[1].total)
    return {recipe: taken[1:] for recipe, taken in times.items()}


def _quality(recipe: Recipe, data: DataSet) -> float:
    """Mean PSNR in dB of a model in an engine."""
    with open_model(
        recipe.model,
        recipe.backend,
        recipe.threads,
        precision=recipe.precision,
        ensemble=recipe.ensemble,
        reach=recipe.reach,
    ) as candidate:
        row = judge(candidate, data, Settings(), lambda *_: None)
    assert row.similarity is not None
    return row.similarity.psnr_db


def _row(
    recipe: Recipe, field: Field, times: dict[Recipe, list[float]], quality: dict[Recipe, float]
) -> Row:
    contender, yard = field[recipe], times[_eager()]
    ratios = [theirs / ours for theirs, ours in zip(yard, times[recipe], strict=True)]
    psnr, plain = quality.get(recipe), quality.get(_exact(recipe.model))
    return Row(
        model=recipe.model,
        engine=contender.label.rpartition(", ")[0],
        precision=contender.precision,
        passes=recipe.ensemble,
        reach=recipe.reach,
        milliseconds=median(times[recipe]),
        times_as_fast=common.stats(ratios),
        psnr_db=psnr,
        lost_db=None if psnr is None or plain is None else plain - psnr,
    )


def _models(text: str) -> tuple[str, ...]:
    try:
        return tuple(entry(name.strip()).name for name in text.split(","))
    except AllfocusError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
