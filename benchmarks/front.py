"""Which width, depth and folding a small DID-ANet should have: PSNR against milliseconds, each net
trained alike.

`allfocus bench front --data SAMPLES --init WEIGHTS` trains every candidate from one start (what
fits of WEIGHTS, whose map estimator stays as it is), brings it to 8 bits, and judges it on the
built-in set. Those that no other beats in both make the front. A run that was broken off goes on
where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from allfocus.benchmarks import common
from allfocus.benchmarks.machine import describe, finish
from allfocus.runtime.command import DONE, positive, script
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.files import publish
from allfocus.runtime.spec import Size
from allfocus.train.train_options import given_weights

if TYPE_CHECKING:
    from allfocus.export.quality import Run

FRONT = "allfocus/front/1"
CANDIDATES: dict[str, str] = {  # name -> what is not as in didanet-lite
    "4x4 folded, 8 blocks of 64": "shuffle=4,features=64,blocks=8",
    "4x4 folded, 8 blocks of 96": "shuffle=4,features=96,blocks=8",
    "2x2 folded, 8 blocks of 32": "shuffle=2,features=32,blocks=8",
}
TAUGHT = "4x4 folded, 8 blocks of 64"  # is trained once more with a teacher
_SHARED = ("steps", "batch", "crop", "lr", "precision", "rounds")  # by all nets
_SIZE = Size(608, 400)  # pixels: 600x400, padded
_PACKAGED = "didanet-lite, as packaged"


@dataclass(frozen=True, kw_only=True)
class Net:
    """One candidate. `times_as_fast` as the packaged didanet-lite in float32; medians."""

    name: str
    gmac: float  # of a frame of 608x400
    parameters: int
    psnr_db: float  # float32, on the built-in set
    int8_psnr_db: float
    milliseconds: float  # int8
    times_as_fast: float
    on_front: bool = False


@dataclass(frozen=True)
class _Ready:
    """A trained candidate, and how its graphs run."""

    name: str
    gmac: float
    parameters: int
    psnr_db: float
    int8_psnr_db: float
    original: Run
    reduced: Run


def front(nets: Sequence[Net]) -> tuple[Net, ...]:
    """The nets, the fastest first, with those marked that no faster one equals in PSNR."""
    marked, best = [], float("-inf")
    for net in sorted(nets, key=lambda net: (net.milliseconds, -net.int8_psnr_db)):
        marked.append(Net(**{**asdict(net), "on_front": net.int8_psnr_db > best}))
        best = max(best, net.int8_psnr_db)
    return tuple(marked)


def table(nets: Sequence[Net], before: float) -> str:
    """Markdown, the input's PSNR in the head."""
    lines = [
        f"| net | parameters | GMAC at {_SIZE} | float32, dB | int8, dB (input: {before:.2f}) | "
        "int8, ms | times as fast | on the front |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for net in nets:
        lines.append(
            f"| {net.name} | {net.parameters:,} | {net.gmac:.1f} | {net.psnr_db:.2f} | "
            f"{net.int8_psnr_db:.2f} | {net.milliseconds:.0f} | {net.times_as_fast:.1f} | "
            f"{'yes' if net.on_front else ''} |"
        )
    return "\n".join(lines)


def draw(nets: Sequence[Net], before: float, path: Path) -> None:
    """PSNR against milliseconds, a dot for each net, the front joined."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes: Any = figure.add_subplot()
    there = [net for net in nets if net.on_front]
    axes.plot([n.milliseconds for n in there], [n.int8_psnr_db for n in there], color="tab:orange")
    for net, mark in zip(nets, cycle("os^vDP*X")):
        place = (net.milliseconds, net.int8_psnr_db)
        axes.plot(*place, mark, color="tab:orange" if net.on_front else "tab:blue", label=net.name)
    axes.axhline(before, color="grey", linewidth=1, linestyle=":", label="input")
    axes.set_xlabel(f"milliseconds a frame of {_SIZE}, int8")
    axes.set_ylabel("PSNR on the built-in set, dB")
    axes.margins(x=0.1, y=0.15)
    axes.legend(fontsize=8)
    with publish(path) as draft:
        figure.savefig(draft, format="png", dpi=120)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench front`."""
    add = parser.add_argument
    add("--data", type=Path, required=True, help="samples that `allfocus data render` made")
    text = "didanet-lite's weights, or its name: map estimator, teacher"
    add("--init", type=given_weights, required=True, metavar="FILE|NAME", help=text)
    add("--steps", type=positive, default=3000, help="of every run (default %(default)s)")
    add("--batch", type=positive, default=8)
    add("--crop", type=positive, default=128)
    add("--lr", type=float, default=1e-3)
    common.add_training_precision(parser)
    add("--rounds", type=positive, default=7, help="of the clock (default %(default)s)")
    add("--out", type=Path, default=Path("runs/front"), help="folder of runs and results")
    add("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Train, reduce, judge, time; write `front.json`, `front.md` and `front.png`."""
    import matplotlib.figure  # noqa: F401  # what is missing is told before hours of work

    from allfocus.export.cache import versions

    versions()
    _check_data(args.data)
    _check_init(args.init)
    machine = describe()
    ready = [_ready(_PACKAGED, args.init, args.data)]
    for name, changes in CANDIDATES.items():
        ready.append(_ready(name, _trained(args, name, changes), args.data))
    taught = f"{TAUGHT}, taught"
    ready.append(_ready(taught, _trained(args, taught, CANDIDATES[TAUGHT]), args.data))
    nets, before = front(_timed(ready, args.rounds)), _input_db()
    text = table(nets, before)
    body = {
        "schema": FRONT,
        "machine": asdict(finish(machine)),
        **{name: getattr(args, name) for name in _SHARED},
        "engine": _engine()[0],
        "input_psnr_db": before,
        "nets": [asdict(net) for net in nets],
    }
    common.leave(args.out, "front", body, text)
    draw(nets, before, args.out / "front.png")
    print(json.dumps(body) if args.json else text)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("front", "Small nets: PSNR against time.", add_arguments, run, argv)


def _check_data(folder: Path) -> None:
    """Nets are trained on its samples, and 8 bits calibrated."""
    from allfocus.export.calibration import SIDE
    from allfocus.train.rendered import find_rendered
    from allfocus.train.store import open_store

    if not find_rendered(folder):
        raise UsageError(f"--data {folder}: expected samples that `allfocus data render` made")
    side = open_store(folder).side
    if side < SIDE:
        raise UsageError(
            f"--data {folder}: samples of {side} pixels, and 8 bits are calibrated on {SIDE}; "
            f"render them with --side {SIDE} or more"
        )


def _check_init(weights: Path) -> None:
    """All candidates have its estimator, and are compared with it."""
    from allfocus.train import checkpoint

    name = checkpoint.load_any(weights)[1].name
    if name != "didanet-lite":
        raise UsageError(f"--init {weights}: expected weights of didanet-lite, got those of {name}")


def _trained(args: argparse.Namespace, name: str, changes: str) -> Path:
    """The weights of a candidate, trained now or in a run before."""
    from allfocus.train import train

    out: Path = args.out / name.replace(",", "").replace(" ", "-")
    words = ["--model", "didanet-lite", "--recipe", "plain", "--loss", "psnr", "--net", changes]
    words += ["--init", str(args.init), "--freeze", "estimator.*", "--data", str(args.data)]
    words += ["--steps", str(args.steps), "--batch", str(args.batch), "--crop", str(args.crop)]
    words += ["--lr", str(args.lr), "--warmup", "300", "--ema", "0.998"]
    words += ["--precision", args.precision, "--out", str(out), "--pictures", "0"]
    if name.endswith("taught"):
        words += ["--teacher", str(args.init)]
    with redirect_stdout(sys.stderr):  # where only the result belongs
        status = train.main(words)
    if status != DONE:
        raise AllfocusError(f"training {name!r} failed; the message is above")
    return out / "didanet-lite.safetensors"


def _ready(name: str, weights: Path, data: Path) -> _Ready:
    """Judge the weights in float32 and in 8 bits."""
    from allfocus.export.eight_bits import Original, reduce
    from allfocus.export.reduction import Reduction
    from allfocus.train import checkpoint

    net, spec = checkpoint.load_any(weights)
    net.eval()
    purpose, start = _engine()
    how = Reduction(purpose=purpose, kind="int8", calibrate=data, forced=True)
    original = Original(net, spec)
    reduced = reduce(original, how)
    loss = reduced.trade.taken.loss
    return _Ready(
        name=name,
        gmac=spec.macs_per_pixel * _SIZE.area / 1e9,
        parameters=spec.parameters,
        psnr_db=loss.original_db,
        int8_psnr_db=loss.psnr_db,
        original=start(original.model),
        reduced=start(reduced.bits.applied(original.model, spec)),
    )


def _engine() -> tuple[Any, Any]:
    """What 8 bits are written for, and what runs them: OpenVINO where it is installed."""
    from importlib.util import find_spec

    from allfocus.export.quality import run_openvino, run_ort

    return ("openvino", run_openvino) if find_spec("openvino") else ("ort", run_ort)


def _timed(ready: Sequence[_Ready], rounds: int) -> list[Net]:
    """Frames of all nets in turn, so that what else the machine does meets all alike."""
    import numpy as np

    from allfocus.export.quality import seconds

    frame = np.random.default_rng(0).random((1, 3, _SIZE.height, _SIZE.width), np.float32)
    yard = next(each for each in ready if each.name == _PACKAGED).original
    taken: list[tuple[float, ...]] = []
    for _ in range(1 + rounds):
        taken.append(tuple(seconds(one, frame) for one in (yard, *(r.reduced for r in ready))))
    columns = list(zip(*taken[1:], strict=True))
    return [
        Net(
            name=each.name,
            gmac=each.gmac,
            parameters=each.parameters,
            psnr_db=each.psnr_db,
            int8_psnr_db=each.int8_psnr_db,
            milliseconds=1e3 * median(column),
            times_as_fast=median(a / b for a, b in zip(columns[0], column, strict=True)),
        )
        for each, column in zip(ready, columns[1:], strict=True)
    ]


def _input_db() -> float:
    """The blurry pictures' own PSNR."""
    from allfocus.benchmarks.candidates import the_input
    from allfocus.benchmarks.pairs import SYNTHETIC, open_data
    from allfocus.benchmarks.scoring import Settings, judge

    row = judge(the_input(), open_data(SYNTHETIC, 8.0), Settings(), lambda *_: None)
    assert row.similarity is not None
    return row.similarity.psnr_db


if __name__ == "__main__":
    sys.exit(main())
