"""DID-ANet's table III on data of one's own: what each part of its training brings, at equal steps.

`allfocus bench ablation --data DIR` trains every row with every seed, and judges them on the set
of `allfocus eval`. A run that was broken off goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from allfocus.benchmarks.candidates import Candidate, open_model, the_input
from allfocus.benchmarks.common import add_training_precision
from allfocus.benchmarks.machine import describe, finish
from allfocus.benchmarks.pairs import SYNTHETIC, DataSet, open_data
from allfocus.benchmarks.scoring import Settings, judge
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.files import publish

ABLATION = "allfocus/ablation/1"
ROWS: dict[str, tuple[str, ...]] = {
    "backbone, no map": ("--no-guidance", "--loss", "l2", "--stages", "2"),
    "map without its loss": ("--no-auxiliary", "--loss", "l2", "--stages", "2"),
    "stages 1, 2, L2": ("--loss", "l2", "--stages", "1,2"),
    "stages 1, 2, L_WD": ("--loss", "wd", "--stages", "1,2"),
    "stages 1, 2, 3, L_WD": ("--loss", "wd", "--stages", "1,2,3"),
}
_SHARED = ("model", "steps", "batch", "crop", "lr", "precision")  # by all rows


@dataclass(frozen=True)
class Row:
    """Mean PSNR in dB over the set's pictures, and the map's error, of each seed."""

    name: str
    options: tuple[str, ...]
    psnr_db: tuple[float, ...]
    map_mae: tuple[float | None, ...]

    @property
    def spread(self) -> float:
        """Standard deviation over seeds, dB; 0 for a single one."""
        return stdev(self.psnr_db) if len(self.psnr_db) > 1 else 0.0


def measure(args: argparse.Namespace, name: str, data: DataSet) -> Row:
    """Train one row with each seed, and judge it on `data`."""
    found = [_one(args, name, seed, data) for seed in args.seeds]
    psnr, maps = zip(*found, strict=True)
    return Row(name, ROWS[name], psnr, maps)


def table(rows: Sequence[Row], before: float) -> str:
    """Markdown, the input's own row first."""
    lines = [
        "| training | PSNR, dB | gain | spread over seeds | map MAE |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| input | {before:.2f} | | | |",
    ]
    for row in rows:
        psnr = mean(row.psnr_db)
        maes = [mae for mae in row.map_mae if mae is not None]
        seen = f"{mean(maes):.3f}" if maes and "--no-guidance" not in row.options else "–"
        lines.append(
            f"| {row.name} | {psnr:.2f} | {psnr - before:+.2f} | {row.spread:.2f} | {seen} |"
        )
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench ablation`."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="what to train on, as for `allfocus train`")
    add("--model", default="didanet-tiny", help="one of DID-ANet's (default %(default)s)")
    add("--steps", type=positive, default=3000, help="of every run (default %(default)s)")
    add("--batch", type=positive, default=8)
    add("--crop", type=positive, default=96)
    add("--lr", type=float, default=1e-3)
    add_training_precision(parser)
    add("--seeds", type=_seeds, default=(0, 1, 2), help="such as 0,1,2 (the default)")
    add("--out", type=Path, default=Path("runs/ablation"), help="folder of runs and results")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Train, judge, write `ablation.json` and `ablation.md`."""
    from allfocus.export.cache import versions

    _check_maps(args.data)
    versions()  # what exports lack is told now, not after the first training
    machine = describe()
    data = open_data(SYNTHETIC, 8.0)  # keeps what it rendered: all rows are judged on it
    rows = [measure(args, name, data) for name in ROWS]
    before = _judged(the_input(), data)[0]
    text = table(rows, before)
    body = {
        "schema": ABLATION,
        "machine": asdict(finish(machine)),
        **{name: getattr(args, name) for name in _SHARED},
        "seeds": args.seeds,
        "input_psnr_db": before,
        "rows": [asdict(row) for row in rows],
    }
    for name, content in (("ablation.json", json.dumps(body, indent=1)), ("ablation.md", text)):
        with publish(args.out / name) as draft:
            draft.write_text(content + "\n", encoding="utf-8")
    print(json.dumps(body) if args.json else text)
    return DONE


def _check_maps(folder: Path) -> None:
    """Refuse, before hours of work, what the later rows cannot be trained on."""
    from allfocus.train.data import Pair, find

    without = [item for item in find(folder) if isinstance(item, Pair) and item.defocus is None]
    if without:
        raise UsageError(
            f"--data {folder}: {without[0].blurry.name} has no map, and most rows learn from maps; "
            "make some (`allfocus data make-maps`), or give sharp photos"
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("ablation", "DID-ANet's table III.", add_arguments, run, argv)


def _one(
    args: argparse.Namespace, name: str, seed: int, data: DataSet
) -> tuple[float, float | None]:
    """(PSNR, map MAE) of one run."""
    from allfocus.export import to_onnx
    from allfocus.train import train

    out = args.out / f"{list(ROWS).index(name)}-{seed}"
    words = ["--model", args.model, "--data", str(args.data), "--out", str(out), *ROWS[name]]
    fixed = ["--steps", args.steps, "--batch", args.batch, "--crop", args.crop, "--lr", args.lr]
    words += [str(word) for word in fixed] + ["--seed", str(seed), "--schedule", "cosine"]
    words += ["--precision", args.precision, "--ema", "0.998"]
    words += ["--pictures", "0", "--val-crops", "8"]
    graph = out / f"{args.model}.onnx"
    weights = out / f"{args.model}.safetensors"
    given = ["--model", args.model, "--weights", str(weights), "--out", str(graph)]
    with redirect_stdout(sys.stderr):  # where only the result belongs
        _call(train.main(words), f"training {name!r}, seed {seed}")
        _call(to_onnx.main(given), f"export of {name!r}, seed {seed}")
    with open_model(str(graph), "auto", 0) as candidate:
        return _judged(candidate, data)


def _judged(candidate: Candidate, data: DataSet) -> tuple[float, float | None]:
    """(PSNR, map MAE), means over the pictures."""
    row = judge(candidate, data, Settings(), lambda *_: None)
    assert row.similarity is not None
    return row.similarity.psnr_db, row.map.mae if row.map else None


def _call(status: int, what: str) -> None:
    if status != DONE:
        raise AllfocusError(f"{what} failed; the message is above")


def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(
            f"expected whole numbers, each once, such as 0,1,2, got {text!r}"
        )
    return tuple(int(part) for part in parts)


if __name__ == "__main__":
    sys.exit(main())
