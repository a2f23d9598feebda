"""`allfocus bench flops`: what a model costs to run, layer by layer, counted and not measured.

Counted are convolutions, by fixed kernels or by a pixel's own, and linear layers: one
multiply-accumulate (MAC) for each weight of a filter and output sample, 2 FLOP each; biases,
activations, sums and resampling are left out, as is usual (for these nets they are under 1 %).
Bytes assume that every layer reads its input and its weights once and writes its output once, with
nothing kept in a cache between layers.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from allfocus.benchmarks.common import (
    QUOTED,
    add_output_arguments,
    deliver,
    size,
    table,
)
from allfocus.benchmarks.machine import describe
from allfocus.benchmarks.schema import FLOPS, Cost, FlopsReport, Layer, Quoted
from allfocus.runtime.catalogue import MODELS, entry
from allfocus.runtime.command import DONE, script
from allfocus.runtime.spec import Precision, Size

if TYPE_CHECKING:
    from allfocus.train.models.count import LayerCount

_VALUE_BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2}
NOTES = (
    "1 MAC = 2 FLOP; convolutions and linear layers only, without biases",
    "bytes: each layer reads its input and weights once and writes its output once",
)


def report(model: str, asked: Size, precision: Precision) -> FlopsReport:
    """Count `model` on a picture of `asked` pixels; raises UnknownModelError."""
    import torch

    from allfocus.train.models import build
    from allfocus.train.models.count import count_layers, count_parameters

    with torch.device("meta"):
        net = build(entry(model).name)
    padded = asked.padded(net.multiple)
    pictures = [
        torch.zeros(1, 3, padded.height, padded.width, device="meta")
        for _ in entry(model).signature("whole").inputs
    ]
    layers = tuple(_layer(row, precision) for row in count_layers(net, *pictures))
    return FlopsReport(
        schema=FLOPS,
        machine=describe(),
        model=model,
        size=str(asked),
        padded=str(padded),
        precision=precision,
        layers=layers,
        total=_cost(
            macs=sum(layer.cost.macs for layer in layers),
            parameters=count_parameters(net),
            activation_bytes=sum(layer.cost.activation_bytes for layer in layers),
            value_bytes=_VALUE_BYTES[precision],
        ),
        paper=QUOTED.get(model),
        notes=NOTES,
    )


def _layer(row: LayerCount, precision: Precision) -> Layer:
    value_bytes = _VALUE_BYTES[precision]
    cost = _cost(
        macs=row.macs,
        parameters=row.parameters,
        activation_bytes=row.activation_bytes // _VALUE_BYTES["fp32"] * value_bytes,
        value_bytes=value_bytes,
    )
    return Layer(name=row.name, kind=row.kind, output=row.output, cost=cost)


def _cost(*, macs: int, parameters: int, activation_bytes: int, value_bytes: int) -> Cost:
    weight_bytes = parameters * value_bytes
    return Cost(
        macs=macs,
        flops=2 * macs,
        parameters=parameters,
        activation_bytes=activation_bytes,
        weight_bytes=weight_bytes,
        flop_per_byte=2 * macs / (activation_bytes + weight_bytes),
    )


def render(result: FlopsReport) -> str:
    """The report as text, for people."""
    total = result.total
    rows: list[tuple[str, ...]] = [
        ("layer", "kind", "output", "parameters", "GMAC", "GFLOP", "MB", "FLOP/byte", "share")
    ]
    for layer in result.layers:
        shape = "x".join(map(str, layer.output[1:]))
        rows.append((layer.name, layer.kind, shape, *_figures(layer.cost, total)))
    rows.append(("total", "", "", *_figures(total, total)))
    lines = [
        f"{result.model} at {result.size}, {result.precision}"
        + (f", padded to {result.padded}" if result.padded != result.size else ""),
        "",
        table(rows, left=3),
        "",
        *result.notes,
    ]
    if result.paper is not None:
        lines += ["", _beside_the_paper(total, result.paper, result.padded)]
    return "\n".join(lines)


def _figures(cost: Cost, total: Cost) -> tuple[str, ...]:
    moved = cost.activation_bytes + cost.weight_bytes
    return (
        f"{cost.parameters:,}",
        f"{cost.macs / 1e9:,.2f}",
        f"{cost.flops / 1e9:,.2f}",
        f"{moved / 1e6:,.1f}",
        f"{cost.flop_per_byte:,.0f}",
        f"{100 * cost.macs / total.macs:.1f} %",
    )


def _beside_the_paper(total: Cost, paper: Quoted, padded: str) -> str:
    rows = [
        ("", "parameters", "GFLOP", "at"),
        ("counted here", f"{total.parameters:,}", f"{total.flops / 1e9:,.1f}", padded),
        (paper.source, f"{paper.parameters:,}", f"{paper.flops / 1e9:,.1f}", paper.size),
    ]
    return table(rows) + "\n" + textwrap.fill(paper.note, 100)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `allfocus bench flops`."""
    parser.add_argument("--model", default="didanet", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--size", type=size, default=Size(600, 400), metavar="WxH")
    parser.add_argument("--precision", choices=tuple(_VALUE_BYTES), default="fp32")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Count, and print the table or the JSON."""
    result = report(args.model, args.size, args.precision)
    deliver(result, render(result), args)
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m allfocus.benchmarks.flops`."""
    return script("allfocus bench flops", __doc__ or "", add_arguments, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
