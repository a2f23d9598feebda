"""The table of all models: `allfocus bench models` counts and measures it, and writes it down.

Counted from the nets: parameters, work, halo, context, phases. Measured on this machine: the ONNX
file (fp16, frame face, 600x400) and the engine of TensorRT for RTX for three generations of GPUs,
which needs no GPU. `--write docs/models.md` puts the table between its two marks there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from allfocus.benchmarks.reported import REPORTED, System, system_of
from allfocus.runtime.artefacts import packaged_weights
from allfocus.runtime.catalogue import MODELS, entry
from allfocus.runtime.command import DONE, script
from allfocus.runtime.errors import UsageError
from allfocus.runtime.files import publish
from allfocus.runtime.spec import Size

SIZE = Size(600, 400)
RESULTS = Path("benchmarks/results/models.json")
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"
_HEADINGS = (
    *("model", "paper", "parameters", "GMAC at 600×400", "halo, px", "context", "phases"),
    *("ONNX fp16", "engine", "build", "its paper reports", "weights"),
)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """What follows from the net alone."""

    parameters: int
    gmac: float
    padded: str  # the size counted at: SIZE padded to the model's multiple
    halo: int  # pixels
    context: int  # channels pooled over the whole picture; 0: none
    phases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an export made."""

    opset: int
    onnx_bytes: int
    engine_bytes: int
    build_seconds: float
    builder: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model."""

    counted: Counted
    measured: Measured


def count(name: str) -> Counted:
    """The facts of the net `name`."""
    import torch

    from allfocus.train.models import build
    from allfocus.train.models.count import count_macs, count_parameters

    with torch.device("meta"):
        net = build(name)
    padded = SIZE.padded(net.multiple)
    pictures = entry(name).signature("whole").inputs
    shape = (1, 3, padded.height, padded.width)
    macs = count_macs(net, *(torch.zeros(shape, device="meta") for _ in pictures))
    return Counted(
        parameters=count_parameters(net),
        gmac=round(macs / 1e9, 2),
        padded=str(padded),
        halo=net.halo,
        context=net.context,
        phases=tuple(entry(name).signatures),
    )


def measure(name: str, folder: Path) -> Measured:
    """Export the whole of `name` and build its engine into `folder`."""
    import onnx

    from allfocus.export import to_trt
    from allfocus.export.plan import Options, make_plan

    weights = None if packaged_weights(name).is_file() else "random:0"
    size, backend = str(SIZE), "tensorrt-rtx"
    plan, _ = make_plan(Options(model=name, weights=weights, size=size, backend=backend))
    made = to_trt.export(plan, out=folder)
    (opset,) = (
        o.version
        for o in onnx.load(made["onnx"], load_external_data=False).opset_import
        if not o.domain
    )
    return Measured(
        opset=opset,
        onnx_bytes=made["onnx_bytes"],
        engine_bytes=made["engine_bytes"],
        build_seconds=round(made["seconds"]["build"], 2),
        builder=f"{made['backend']} {made['flavour_version']} for {', '.join(made['targets'])}",
    )


def table(rows: dict[str, Row]) -> str:
    """The table in Markdown, in the catalogue's order."""
    lines = [_line(_HEADINGS), _line("---" for _ in _HEADINGS)]
    return "\n".join([*lines, *(_line(_cells(name, row)) for name, row in rows.items())])


def written(text: str, rows: dict[str, Row]) -> str:
    """`text` with the table between its marks; raises UsageError where they are not there."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"expected the lines {BEGIN} and {END} around the table")
    return f"{head}{BEGIN}\n{table(rows)}\n{END}{tail}"


def read(path: Path) -> dict[str, Row]:
    """What `allfocus bench models --out` wrote."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["models"]
        return {name: _row(row) for name, row in rows.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: expected what `allfocus bench models --out` wrote ({error!r}); remove it, or "
            "give another --out"
        ) from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench models`."""
    add = parser.add_argument
    add("--model", help="only these, separated by commas; the others are kept as --out has them")
    add("--out", type=Path, default=RESULTS, help="the figures as JSON (%(default)s)")
    add("--json", action="store_true", help="print the figures as one JSON object")
    add("--write", type=Path, metavar="FILE", help="put the table between its marks in FILE")


def run(args: argparse.Namespace) -> int:
    """Count, measure, write."""
    from allfocus.benchmarks.machine import describe

    kept = read(args.out) if args.out.is_file() else {}
    if args.write is not None:
        written(_text_of(args.write), {})  # what is wrong with it is told before the work
    wanted = args.model.split(",") if args.model else list(MODELS)
    for name in tqdm([entry(name).name for name in wanted], unit="model", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            kept[name] = Row(counted=count(name), measured=measure(name, Path(folder)))
    rows = {name: kept[name] for name in MODELS if name in kept}
    about = {"machine": asdict(describe()), "models": {n: asdict(r) for n, r in rows.items()}}
    encoded = json.dumps(about, indent=1)
    with publish(args.out) as draft:
        draft.write_text(f"{encoded}\n", encoding="utf-8")
    if args.write is not None:
        text = written(_text_of(args.write), rows)
        with publish(args.write) as draft:
            draft.write_text(text, encoding="utf-8")
    print(encoded if args.json else table(rows))
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m allfocus.benchmarks.model_table`."""
    return script("allfocus bench models", __doc__ or "", add_arguments, run, argv)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--write {path}: expected a text file with the marks: {error}") from None


def _row(row: dict[str, dict[str, object]]) -> Row:
    counted, measured = dict(row["counted"]), dict(row["measured"])
    counted["phases"] = tuple(counted["phases"])  # type: ignore[arg-type]  # a list in JSON
    return Row(counted=Counted(**counted), measured=Measured(**measured))  # type: ignore[arg-type]


def _cells(name: str, row: Row) -> tuple[str, ...]:
    counted, measured, system = row.counted, row.measured, REPORTED[system_of(name)]
    at = "" if counted.padded == str(SIZE) else f" ({counted.padded.replace('x', '×')})"
    return (
        f"`{name}`",
        system.paper,
        f"{counted.parameters:,}",
        f"{counted.gmac:,.1f}{at}",
        str(counted.halo),
        f"{counted.context} means" if counted.context else "–",
        ", ".join(counted.phases),
        f"opset {measured.opset}, {measured.onnx_bytes / 1e6:.1f} MB",
        f"{measured.engine_bytes / 1e6:.1f} MB",
        f"{measured.build_seconds:.1f} s",
        _reported(name, system),
        _weights(name),
    )


def _reported(name: str, system: System) -> str:
    return system.reports if name == system_of(name) else "–"  # of its own design, not of variants


def _weights(name: str) -> str:
    path = packaged_weights(name)
    if path.is_file():
        return f"[packaged](../runtime/allfocus/data/{name}.md)"
    return "for tests" if name.endswith("-tiny") else "none yet"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
