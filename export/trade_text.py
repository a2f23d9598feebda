"""The trade of quality against time that a search made: a table, and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from allfocus.export.search import Step, Trade
from allfocus.runtime.files import publish

_HEAD = (
    "| layers not in 8 bits | work in 8 bits | PSNR, dB | lost, dB | to float32, dB | "
    "times as fast | |",
    "| ---: | ---: | ---: | ---: | ---: | ---: | --- |",
)


def table(trade: Trade) -> str:
    """Markdown, a line for each step in the order they were tried."""
    lines = [*_HEAD, *(_line(step, trade) for step in trade.steps)]
    engines = {step.speed.engine for step in trade.steps if step.speed}
    timed = f"times: {', '.join(sorted(engines))} on this machine's CPU" if engines else _UNTIMED
    return "\n".join([*lines, "", f"limit {trade.max_loss:g} dB; {timed}"])


_UNTIMED = "times: not measured, what runs it is not here"


def _line(step: Step, trade: Trade) -> str:
    loss, speed = step.loss, step.speed
    fast = f"{speed.times_as_fast:.2f}" if speed else "not measured"
    taken = "taken" if step is trade.taken else ""
    return (
        f"| {len(step.kept)} | {100 * step.share:.1f} % | {loss.psnr_db:.3f} | "
        f"{loss.loss_db:.4f} | {loss.to_original_db:.1f} | {fast} | {taken} |"
    )


def write(trade: Trade, stem: Path) -> list[Path]:
    """`STEM-trade.md`, `.json` and, where matplotlib is there, `.png`."""
    data = {
        "max_loss_db": trade.max_loss,
        "taken": list(trade.taken.kept),
        "steps": [step.to_dict() for step in trade.steps],
    }
    files = {".md": table(trade), ".json": json.dumps(data, indent=1)}
    written = []
    for suffix, text in files.items():
        path = stem.with_name(f"{stem.name}-trade{suffix}")
        with publish(path) as draft:
            draft.write_text(text + "\n", encoding="utf-8")
        written.append(path)
    return written + _draw(trade, stem.with_name(f"{stem.name}-trade.png"))


def _draw(trade: Trade, path: Path) -> list[Path]:
    """PSNR against time, a dot for each step; where no time is known, against work in 8 bits."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes: Any = figure.add_subplot()
    timed = all(step.speed for step in trade.steps)
    for step in trade.steps:
        x = step.speed.milliseconds if timed and step.speed else 100 * step.share
        place = (x, step.loss.psnr_db)
        axes.plot(*place, "o", color="tab:red" if step is trade.taken else "tab:blue")
        axes.annotate(f"{len(step.kept)}", place, xytext=(5, 4), textcoords="offset points")
    original = trade.steps[0].loss.original_db
    axes.axhline(original, color="grey", linewidth=1, label="float32")
    limit = original - trade.max_loss
    axes.axhline(limit, color="grey", linewidth=1, linestyle=":", label="limit")
    across = "milliseconds a frame of about 304x208" if timed else "% of the work in 8 bits"
    axes.set_xlabel(across)
    axes.set_ylabel("PSNR on the evaluation set, dB")
    axes.margins(0.12)  # room for the numbers
    axes.set_title("numbers: layers not in 8 bits; red: taken")
    axes.legend()
    with publish(path) as draft:
        figure.savefig(draft, format="png", dpi=120)
    return [path]
