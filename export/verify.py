"""Parity: does the ONNX file compute what the PyTorch net does? One run each on a real photo.

The reference is always the float32 net with plain NumPy around it, so that a mistake in a face
shows as well as one in the exported graph. ONNX Runtime runs the file on the CPU, through the same
backend that users load it with. Tolerances stand in `tolerance.py`.

ONNX Runtime's CPU computes a float16 graph in float32, so for fp16 the net is run once more with
every operator's result rounded to float16 (see `half.py`), on a smaller part of the photo: overflow
and lost precision show there, and it is held to the float face's tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from allfocus.export.deviation import Deviation, measure
from allfocus.export.tolerance import least_db, tolerance
from allfocus.export.widened import opened
from allfocus.runtime.errors import ParityError
from allfocus.runtime.frame import peak
from allfocus.runtime.layout import as_frame
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Graph, Size

if TYPE_CHECKING:
    from allfocus.export.samples import Arrays
    from allfocus.train.models.base import Net

ANY_SIZE = Size(384, 256)  # pixels: what a graph that takes any size is checked at
HALF_SIZE = Size(192, 128)  # pixels: what float16 is tried on
FP16_DB = 60.0  # dB: what float16 is held to, unless the model says otherwise


def verify(
    onnx_file: Path,
    net: Net,
    graph: Graph,
    *,
    fp16_db: float = FP16_DB,
    kept: Sequence[str] = (),
) -> dict[str, float]:
    """Compare `onnx_file` with `net`, float32 in eval mode; figures for a manifest.

    `max_abs`, `mean_abs` and `psnr_db` are those of the first output, such as `sharp`; those of
    another have its name before them, as in `defocus_max_abs`. For fp16, `float16_psnr_db` is that
    of the first output with every result rounded to float16, but for the layers `kept`.
    Raises ParityError with the figures where a tolerance is exceeded or a value is not finite.
    """
    import torch

    from allfocus.export import as_faces, samples

    size = graph.shapes.opt if graph.shapes else ANY_SIZE
    size = size.padded(samples.multiple(net, graph))
    given = as_faces.given(samples.inputs(net, graph.signature, size), graph)
    with torch.inference_mode():
        outputs = net.run(graph.phase, *as_faces.seen(given, graph).values())
    expected = dict(zip(graph.signature.outputs, outputs, strict=True))
    with opened(onnx_file, graph) as backend:
        found = backend.run(given)
    reference = as_faces.answered(samples.cut(expected, graph), given, graph)
    figures = compare(found, reference, graph, fp16_db)
    if graph.precision in ("fp16", "bf16"):
        half = {"fp16": "float16", "bf16": "bfloat16"}[graph.precision]
        figures[f"{half}_psnr_db"] = check_half(net, graph, fp16_db, kept)
    return figures


def check_half(net: Net, graph: Graph, fp16_db: float, kept: Sequence[str] = ()) -> float:
    """PSNR in dB of a phase of the float32 `net` against itself in the half precision of `graph`.

    Raises ParityError, with the layers that lose most, where it is under what `fp16_db` asks of it.
    """
    from allfocus.export.layers import Trial, worst

    found = Trial(net, graph, HALF_SIZE).psnr(kept)
    least = least_db(graph.precision, fp16_db)
    if not found >= least:
        losses = worst(net, graph, kept)
        names = ", ".join(f"{name} ({db:.1f} dB alone)" for name, db in losses)
        keep = ",".join((*kept, *(name for name, _ in losses)))
        find = "let --fp32-layers auto find which, " if graph.precision == "fp16" else ""
        raise ParityError(
            f"in {graph.precision} the net is at {found:.1f} dB of itself in float32, expected at "
            f"least {least:g}; nothing was kept. The layers that lose most: {names}. Keep them in "
            f"float32 with --fp32-layers {keep}, {find}or use --precision fp32"
        )
    return found


def compare(
    found: Arrays, expected: Arrays, graph: Graph, fp16_db: float = FP16_DB
) -> dict[str, float]:
    """The deviation of `found` from `expected`, both in the layout of `graph`."""
    if set(found) != set(expected):
        raise ParityError(
            f"the ONNX graph gives {', '.join(found)}, the PyTorch net {', '.join(expected)}; "
            "nothing was kept"
        )
    figures: dict[str, float] = {}
    for name, reference in expected.items():
        given, wanted = (as_frame(name, each, graph.io) for each in (found[name], reference))
        deviation = measure(name, given, wanted, _white(name, wanted))
        _check(name, deviation, graph, fp16_db)
        prefix = "" if name == graph.signature.outputs[0] else f"{name}_"
        for figure in ("max_abs", "mean_abs", "psnr_db"):
            figures[prefix + figure] = getattr(deviation, figure)
    return figures


def _white(name: str, reference: NDArray[Any]) -> float:
    """What counts as 1: white, the map's largest radius, a vector's own largest value."""
    if KINDS[name] == "vector":
        return max(1.0, float(np.abs(reference).max()))
    return float(peak(reference.dtype))


def _check(name: str, deviation: Deviation, graph: Graph, fp16_db: float) -> None:
    limit = tolerance(graph, name, fp16_db)
    if deviation.exceeds(limit):
        advice = (
            "; the graph computes something else than the net: report it with these figures"
            if graph.precision == "fp32"
            else "; these weights need a larger range or finer steps: use --precision fp32"
        )
        raise ParityError(
            f"the ONNX graph's {name!r} is too far from the PyTorch net's: "
            f"{_text(asdict(deviation))}; allowed: {_text(limit.to_dict())}. "
            f"Nothing was kept{advice}"
        )


def _text(figures: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
