"""The files that let `allfocus.load` work without torch: `NAME.safetensors`, `NAME.onnx`, and
`NAME-estimate.onnx`, `NAME-restore.onnx` of a model with two phases.

`python export/packaged.py --model NAME --weights FILE --out DIR`. The ONNX files (float face, fp32,
any size) hold no weights: their initializers are references into the safetensors file beside them,
float16, each followed by a cast that an engine computes once, when it loads the graph.

With `--calibrate DIR` the same in 8 bits for CPUs: `NAME-int8.onnx` for ONNX Runtime,
`NAME-int8-openvino.onnx`, the phases likewise, and `NAME-ranges.json`. They refer to the same
weights, which are rounded to 8 bits when the graph is loaded.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import sys
from collections.abc import Container, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import numpy as np
    from numpy.typing import NDArray

    from allfocus.export.quantize import added
    from allfocus.export.reduction import MAX_LOSS, Purpose, Reduction
    from allfocus.export.weights import parse
    from allfocus.runtime.catalogue import entry
    from allfocus.runtime.command import DONE, script
    from allfocus.runtime.errors import ArtefactError, CheckpointError
    from allfocus.runtime.files import publish
    from allfocus.runtime.signature import Phase
    from allfocus.runtime.spec import LOSS_KEY, SPEC_KEY, Graph, Precision, Spec
except ModuleNotFoundError as error:
    sys.exit(f'{error}; install the project first: pip install -e ".[export]"')

if TYPE_CHECKING:
    import onnx

    from allfocus.export.eight_bits import Reduced
    from allfocus.train.models.base import Net


_SUFFIX = ".float16"  # of the references' names; what they are cast to has the checkpoint's name
_SMALL = 16  # values: constants of operators, such as scales and axes, stay in the ONNX file


@dataclass(frozen=True)
class Stored:
    """Where a float16 tensor lies in a safetensors file."""

    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file
    length: int  # bytes

    def of(self, data: bytes) -> bytes:
        """The tensor's bytes, where `data` are the file's."""
        return data[self.offset : self.offset + self.length]


Kind = tuple[Phase, Precision, str]  # of a file: phase, precision, and for which engine alone


def write_files(
    model: str, weights: Path, folder: Path, calibrate: Path | None = None
) -> dict[Kind, dict[str, float]]:
    """Write `folder/MODEL.safetensors`, a copy of `weights`, and an ONNX file for each phase; where
    there are pictures to `calibrate` on, in 8 bits too.

    Each knows what memory it takes. The parity of each file is returned. Raises CheckpointError
    where `weights` is not what `train.checkpoint.save` writes, and ParityError where an ONNX file
    does not compute what the net does, or 8 bits cost too much.
    """
    from allfocus.export import to_onnx

    stored = read_header(weights)
    net, spec = parse(str(weights), model).load(model)
    makers = [_Maker(net, spec, stored, weights, folder)]
    if calibrate is not None:
        makers += _in_eight_bits(makers[0], calibrate)
    protos = []
    for phase in net.phases():
        traced = to_onnx.trace(net, graph_of(model, phase), weights_stay=True)
        protos += [(each, phase, each.referring(phase, deepcopy(traced))) for each in makers]
    copy = folder / f"{model}.safetensors"
    if not (copy.exists() and copy.samefile(weights)):
        with publish(copy) as draft:
            shutil.copyfile(weights, draft)
    return {each.kind(phase): each.write(proto, phase) for each, phase, proto in protos}


def _in_eight_bits(plain: _Maker, calibrate: Path) -> list[_Maker]:
    """For each of the CPU's engines; the ranges are found once."""
    from allfocus.export.eight_bits import Original, reduce

    purposes: tuple[Purpose, Purpose] = ("ort", "openvino")
    original = Original(plain.net, plain.spec, weights_stay=True)
    found, ranges = [], None
    for purpose in purposes:
        how = Reduction(purpose=purpose, kind="int8", calibrate=calibrate, ranges=ranges)
        how = how if ranges is None else replace(how, calibrate=None)
        reduced = reduce(original, how)
        found.append(replace(plain, reduced=reduced))
        ranges = plain.folder / f"{plain.spec.name}-ranges.json"
        reduced.bits.ranges.write(ranges)
    return found


def graph_of(model: str, phase: Phase = "whole") -> Graph:
    """What the packaged ONNX file of a phase of `model` shows."""
    signature = entry(model).signature(phase)
    return Graph(
        io="float", precision="fp32", color="rgb", shapes=None, phase=phase, signature=signature
    )


@dataclass(frozen=True)
class _Maker:
    """Makes the ONNX files of one precision; `reduced`: in 8 bits."""

    net: Net
    spec: Spec
    stored: dict[str, Stored]
    weights: Path
    folder: Path
    reduced: Reduced | None = None

    def kind(self, phase: Phase) -> Kind:
        """What the file of a phase is."""
        if self.reduced is None:
            return phase, "fp32", ""
        return phase, "int8", "openvino" if self.reduced.bits.dialect == "openvino" else ""

    def stem(self, phase: Phase) -> str:
        """The name of its file without ending."""
        _, precision, engine = self.kind(phase)
        parts = [self.spec.name, phase, precision, engine]
        return "-".join(part for part in parts if part not in ("whole", "fp32", ""))

    def graph(self, phase: Phase) -> Graph:
        """What the file of a phase shows."""
        return replace(graph_of(self.spec.name, phase), precision=self.kind(phase)[1])

    def referring(self, phase: Phase, traced: onnx.ModelProto) -> onnx.ModelProto:
        """The graph of a phase, made of its trace in float32, its weights in the safetensors file
        that will stand beside it."""
        from allfocus.export import to_onnx

        graph = self.graph(phase)
        bits = None if self.reduced is None else replace(self.reduced.bits, inline=False)
        spec = to_onnx.of_graph(self.spec, self.net, graph)
        proto = to_onnx.finished(traced, self.net, spec, graph, bits)
        location = f"{self.spec.name}.safetensors"
        constants = [name for name, _ in self.net.named_buffers()]
        if self.reduced is not None:
            label = json.dumps(self.reduced.label(MAX_LOSS))
            proto.metadata_props.add(key=LOSS_KEY, value=label)
            constants += [each.name for each in proto.graph.initializer if added(each.name)]
        whole = phase == "whole" and self.reduced is None  # biases in 8 bits are not referred to
        data = self.weights.read_bytes()
        refer(proto, self.stored, data, location, uses_all=whole, constants=constants)
        return proto

    def write(self, proto: onnx.ModelProto, phase: Phase) -> dict[str, float]:
        """Check and write one ONNX file, with its measured memory; its parity."""
        import onnx

        from allfocus.export import footprint
        from allfocus.export.verify import verify

        with publish(self.folder / f"{self.stem(phase)}.onnx") as draft:
            draft.write_bytes(proto.SerializeToString(deterministic=True))
            onnx.checker.check_model(str(draft), full_check=True)
            footprint.write_down(draft)
            return verify(draft, self.net, self.graph(phase))


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file that `train.checkpoint.save` wrote.

    The format: the header's length as 8 bytes, little end first, the header as JSON, the tensors.
    """
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, path.stat().st_size)))
        spec = header.pop("__metadata__", {}).get(SPEC_KEY)
        kinds = {entry["dtype"] for entry in header.values()}
    except (OSError, struct.error, ValueError, AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from None
    if spec is None or kinds != {"F16"}:
        raise CheckpointError(
            f"{path}: expected float16 weights with their Spec, as training writes them, got "
            f"{', '.join(sorted(kinds))} {'without' if spec is None else 'with'} a Spec"
        )
    return {name: _stored(entry, 8 + size) for name, entry in header.items()}


def refer(
    model: onnx.ModelProto,
    stored: dict[str, Stored],
    data: bytes,
    location: str,
    *,
    uses_all: bool = True,
    constants: Container[str] = (),
) -> None:
    """Turn the weights inside `model` into references to `stored` in the file `location`.

    `data` are that file's bytes. A phase need not use all that is stored. `constants` are values
    of the net's design, which stay in the ONNX file. Raises ArtefactError where the graph's weights
    and the stored ones are not the same: the file would then compute something else than the net.
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    learnt = {name: weight for name, weight in weights.items() if name not in constants}
    _check_names(learnt, stored, data, location, uses_all=uses_all)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in stored]
    casts = []
    for name in (name for name in stored if name in weights):
        _check_equal(name, weights[name], stored[name], data)
        kept.append(_reference(name + _SUFFIX, stored[name], location))
        casts.append(helper.make_node("Cast", [name + _SUFFIX], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    for field, values in ((model.graph.initializer, kept), (model.graph.node, nodes)):
        del field[:]
        field.extend(values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", required=True, help="a model's name")
    parser.add_argument("--weights", type=Path, required=True, help="what training wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--calibrate", type=Path, help="pictures: files in 8 bits as well")


def run(args: argparse.Namespace) -> int:
    """Write the files and report the parity."""
    made = write_files(args.model, args.weights, args.out, args.calibrate)
    for kind, parity in made.items():
        print(f"{args.out / args.model}, {' '.join(filter(None, kind))}: {parity}")
    return DONE


def main(argv: Sequence[str] | None = None) -> int:
    """The command run by its path."""
    return script("packaged", "Write the files a package carries.", add_arguments, run, argv)


def _stored(entry: dict[str, list[int]], start: int) -> Stored:
    first, end = entry["data_offsets"]
    return Stored(tuple(entry["shape"]), start + first, end - first)


def _check_names(
    weights: dict[str, NDArray[Any]],
    stored: dict[str, Stored],
    data: bytes,
    location: str,
    *,
    uses_all: bool,
) -> None:
    """Every weight is stored, and every stored tensor is used, where `uses_all`.

    The exporter drops biases that are zero and keeps one of several small tensors that are equal.
    """
    used = {(stored[name].shape, stored[name].of(data)) for name in weights if name in stored}
    unknown = [name for name, w in weights.items() if w.size > _SMALL and name not in stored]
    unused = {name: place for name, place in stored.items() if name not in weights}
    lost = [
        name
        for name, place in unused.items()
        if uses_all and any(place.of(data)) and (place.shape, place.of(data)) not in used
    ]
    if unknown or lost:
        raise ArtefactError(
            f"{location}: the graph has weights that are not in it ({unknown}), or lacks some of "
            f"its tensors ({lost})"
        )


def _check_equal(name: str, weight: NDArray[Any], place: Stored, data: bytes) -> None:
    value = np.frombuffer(place.of(data), "<f2").reshape(place.shape).astype(np.float32)
    if not np.array_equal(value, weight):
        raise ArtefactError(
            f"{name}: the graph's values are not the checkpoint's, rounded or moved"
        )


def _reference(name: str, place: Stored, location: str) -> onnx.TensorProto:
    from onnx import TensorProto

    tensor = TensorProto(
        name=name,
        data_type=TensorProto.FLOAT16,
        dims=place.shape,
        data_location=TensorProto.EXTERNAL,
    )
    entries = {"location": location, "offset": place.offset, "length": place.length}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


if __name__ == "__main__":
    sys.exit(main())
