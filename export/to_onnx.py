"""From a net to a labelled ONNX file: `python export/to_onnx.py --model NAME --out FILE`.

The graph holds standard operators only, or functions made of them, and neither paths nor traces of
the machine that wrote it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import numpy as np
    from numpy.typing import NDArray

    from allfocus.export.face_options import add_face, face_of
    from allfocus.export.phase_option import add_phase, as_json, phases_of
    from allfocus.export.weights import OPTION, parse
    from allfocus.runtime.artefacts import beside
    from allfocus.runtime.catalogue import entry
    from allfocus.runtime.command import DONE, script
    from allfocus.runtime.errors import UsageError
    from allfocus.runtime.files import publish
    from allfocus.runtime.layout import layout, multiple_in
    from allfocus.runtime.signature import Phase
    from allfocus.runtime.spec import (
        CANARY_KEY,
        GRAPH_KEY,
        SPEC_KEY,
        Graph,
        Precision,
        Size,
        Spec,
    )
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[export]"')

if TYPE_CHECKING:
    import onnx

    from allfocus.export.eight_bits import EightBits
    from allfocus.train.models.base import Net


_BFLOAT16_OPSET = 22


def export(
    net: Net,
    spec: Spec,
    graph: Graph,
    kept: Sequence[str] = (),
    bits: EightBits | None = None,
    *,
    weights_stay: bool = False,
) -> onnx.ModelProto:
    """The ONNX model of `net` as `graph` describes it, with both in its metadata,
    and with what `net` answers to the golden frame.

    `spec` is that of the graph (see `of_graph`); in fp16, the layers `kept` stay float32. `bits`
    brings the graph, of a precision that has 8, to them. `weights_stay` leaves them as they are in
    the checkpoint, where they may lie otherwise in memory for speed (see `surgery`).

    Equal arguments give equal bytes with the same versions of torch, onnx and onnxscript.
    """
    base = replace(graph, precision=base_of(graph, bits))
    return finished(trace(net, base, kept, weights_stay=weights_stay), net, spec, graph, bits)


def trace(
    net: Net, graph: Graph, kept: Sequence[str] = (), *, weights_stay: bool = False
) -> onnx.ModelProto:
    """The graph of `net` alone, in a precision that is no 8 bits: what takes the time. Arguments as
    those of `export`."""
    import torch

    from allfocus.export import faces, ops, samples, surgery

    with _quiet():
        program = torch.onnx.export(
            faces.face(net, graph, kept).eval(),
            tuple(torch.from_numpy(array) for array in _examples(graph, net)),
            dynamo=True,
            input_names=graph.signature.inputs,
            output_names=graph.signature.outputs,
            dynamic_shapes=_dynamic_axes(graph, samples.multiple(net, graph)),
            custom_translation_table=ops.translations(),
            verbose=False,
        )
    assert program is not None  # dynamo=True always returns one
    model = program.model_proto
    ops.attach_functions(model)
    _clean(model)
    _name_as_checkpoint(model, faces.PREFIX)
    surgery.operate(model, weights_stay=weights_stay)
    if graph.precision == "bf16":
        _raise_opset(model)
    return model


def finished(
    model: onnx.ModelProto, net: Net, spec: Spec, graph: Graph, bits: EightBits | None = None
) -> onnx.ModelProto:
    """What `trace` gave, in the precision of `graph`, and saying what it is; without `bits` it is
    the same object, changed."""
    from allfocus.export import golden

    if bits is not None:
        model = bits.applied(model, spec)
    labels = {SPEC_KEY: spec.to_json(), GRAPH_KEY: graph.to_json()}
    _label(model, {**labels, CANARY_KEY: golden.answers(net, graph)})
    return model


def _raise_opset(model: onnx.ModelProto) -> None:
    """To the first in which convolutions take bfloat16; nothing else that is used here changed."""
    functions = [each.opset_import for each in model.functions]
    for opset in chain(model.opset_import, *functions):
        if opset.domain == "":
            opset.version = max(opset.version, _BFLOAT16_OPSET)


def base_of(graph: Graph, bits: EightBits | None) -> Precision:
    """What a graph computes in where it is not in 8 bits."""
    if bits is None:
        return graph.precision
    return "fp32" if bits.dialect in ("ort", "openvino") else "fp16"


def of_graph(spec: Spec, net: Net, graph: Graph) -> Spec:
    """The Spec of one graph of `net`: the halo, multiple and work of its phase, the parameters of
    the whole net."""
    from allfocus.export import samples
    from allfocus.train.models.base import phase_macs

    return replace(
        spec,
        halo=net.halos[graph.phase],
        macs_per_pixel=phase_macs(spec.name, net, graph.phase),
        multiple=samples.multiple(net, graph),
    )


def write(model: onnx.ModelProto, path: Path) -> None:
    """Check `model` and write it to `path`, with its weights inside."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", required=True, help="a model of the catalogue")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--weights", help=f"{OPTION}; default: the package's")
    add_phase(parser)
    parser.add_argument("--precision", choices=("fp32", "fp16"), default="fp32")
    add_face(parser, "float")
    parser.add_argument("--size", help="WIDTHxHEIGHT; default: any size")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Export, check against PyTorch, write."""
    from allfocus.export.plan import one_size

    if args.out.suffix.lower() != ".onnx":
        raise UsageError(f"--out {args.out}: expected the name of an ONNX file, NAME.onnx")
    phases = phases_of(args.phase, args.model)
    model = entry(args.model)
    face = face_of(args.io, args.color, args.matrix, args.range)
    multiple = multiple_in(args.io, model.multiple)
    shapes, notes = one_size(args.size, multiple) if args.size else (None, [])
    for note in notes:
        print(f"allfocus: {note}", file=sys.stderr)
    usual = Graph(**face, precision=args.precision, shapes=shapes)
    net, spec = parse(args.weights, args.model).load(args.model)
    reports: dict[Phase, dict[str, Any]] = {}
    for phase in phases:
        graph = replace(usual, phase=phase, signature=model.signature(phase))
        path = args.out if phases == [phase] else beside(args.out, phase)
        parity = _write_checked(net, of_graph(spec, net, graph), graph, path)
        reports[phase] = {"onnx": str(path), "bytes": path.stat().st_size, "parity": parity}
        if not args.json:
            print(f"{path}: {parity}")
    if args.json:
        print(as_json(args.phase, reports))
    return DONE


def _write_checked(net: Net, spec: Spec, graph: Graph, path: Path) -> dict[str, float]:
    """Write a graph of `net` to `path`, whole or not at all; its parity with PyTorch."""
    from allfocus.export import footprint
    from allfocus.export.verify import verify

    with publish(path) as temporary:
        write(export(net, spec, graph), temporary)
        parity = verify(temporary, net, graph, fp16_db=entry(spec.name).fp16_db)
        footprint.write_down(temporary)
    return parity


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("to_onnx", "Export a model to ONNX.", add_arguments, run, argv)


def _example_size(graph: Graph, multiple: int) -> Size:
    """The size the net is traced at; where sizes are free, any but the special cases 0 and 1."""
    if graph.shapes is not None and graph.shapes.is_static:
        return graph.shapes.opt
    return Size(24 * multiple, 16 * multiple)


def _examples(graph: Graph, net: Net) -> list[NDArray[Any]]:
    """Inputs of zeros, which the net is traced with."""
    from allfocus.export import samples

    size = _example_size(graph, samples.multiple(net, graph))
    layouts = [layout(name, graph.io) for name in graph.signature.inputs]
    return [np.zeros(each.shape(size, net.context), each.dtype) for each in layouts]


def _dynamic_axes(graph: Graph, multiple: int) -> tuple[tuple[dict[int, Any], ...]] | None:
    """For torch.onnx.export: the axes of each input that may grow; None where the size is fixed."""
    from torch.export import Dim

    if graph.shapes is not None and graph.shapes.is_static:
        return None
    dims = {
        "H": _times(multiple, Dim("h")),
        "W": _times(multiple, Dim("w")),
        "3H/2": _times(3 * multiple // 2, Dim("h")),
    }
    axes = [enumerate(layout(name, graph.io).axes) for name in graph.signature.inputs]
    return (tuple({i: dims[str(a)] for i, a in each if a in dims} for each in axes),)


def _times(factor: int, dim: Any) -> Any:
    return factor * dim if factor > 1 else dim


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about itself and torchvision, which is not used here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            warnings.filterwarnings("ignore", message=".*axis name", category=UserWarning)
            yield
    finally:
        log.setLevel(level)


def _clean(model: onnx.ModelProto) -> None:
    """Remove stack traces, paths and intermediate shapes, which every reader infers for itself."""
    graph = model.graph
    del graph.value_info[:]
    values = (*graph.node, *graph.initializer, *graph.input, *graph.output)
    for part in (model, graph, *values):
        del part.metadata_props[:]
        part.ClearField("doc_string")


def _name_as_checkpoint(model: onnx.ModelProto, prefix: str) -> None:
    """Give the weights the names they have in the checkpoint, without the face's prefix."""
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.removeprefix(prefix)
    for node in model.graph.node:
        _replace(node.input, [name.removeprefix(prefix) for name in node.input])


def _replace(field: Any, values: Iterable[str]) -> None:
    del field[:]
    field.extend(values)


def _label(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


if __name__ == "__main__":
    sys.exit(main())
