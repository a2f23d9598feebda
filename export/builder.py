"""From an ONNX file to an engine, by TensorRT or TensorRT for RTX: the only use of trt.Builder.

Networks are strongly typed: precision is what the ONNX graph says, in all releases alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allfocus.export.flavour import Target
from allfocus.export.plan import input_shape
from allfocus.export.progress import cancellable, monitored
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.manifest import Flavour
from allfocus.runtime.spec import Graph
from allfocus.runtime.trt_engine import FLAVOURS, error_log, import_flavour

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Built:
    """A serialised engine, and the version that built it as its module tells it."""

    data: bytes
    version: str


def build_engine(onnx_file: Path, graph: Graph, target: Target) -> Built:
    """Build the engine of `onnx_file` for `target`; on Ctrl-C the build ends and nothing is kept.

    Raises BackendError where the flavour is not installed or cannot build here, and ArtefactError
    for a graph it cannot take.
    """
    trt = import_flavour(target.flavour)
    if target.flavour == "tensorrt-rtx":
        check_operators(onnx_file)
    builder = _start(trt, target.flavour)
    network = _parse(trt, builder, onnx_file, target.flavour)
    config = builder.create_builder_config()
    if target.flavour == "tensorrt-rtx":
        _set_targets(trt, config, target.targets)
    if graph.shapes is not None and not graph.shapes.is_static:
        _add_profile(builder, config, graph)
    return Built(_build(trt, builder, network, config, target.flavour), trt.__version__)


def check_operators(onnx_file: Path) -> None:
    """Refuse operators that are neither standard ONNX nor functions of the file itself.

    TensorRT for RTX would look for a plugin of that name, and where one is registered its parser
    ends the whole process. Raises ArtefactError with the operators' names.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(onnx_file), load_external_data=False)
    except DecodeError as error:
        raise ArtefactError(f"{onnx_file}: damaged, or not an ONNX file ({error})") from None
    own = {(function.domain, function.name) for function in model.functions}
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    unknown = {
        f"{node.domain or 'ai.onnx'}::{node.op_type}"
        for body in bodies
        for node in _all_nodes(body)
        if (node.domain, node.op_type) not in own and not onnx.defs.has(node.op_type, node.domain)
    }
    if unknown:
        raise ArtefactError(
            f"{onnx_file}: TensorRT for RTX has no plugins, and the graph needs "
            f"{', '.join(sorted(unknown))}; use --backend tensorrt, or export the graph with these "
            "operators as ONNX functions"
        )


def _all_nodes(nodes: Any) -> Iterator[onnx.NodeProto]:
    """`nodes` and those in the branches and loops within them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _all_nodes(inner.node)


def _start(trt: Any, flavour: Flavour) -> Any:
    log = error_log(trt)
    log.forget()
    try:
        return trt.Builder(log.logger)
    except (TypeError, RuntimeError) as error:  # pybind11's "factory function returned nullptr"
        raise BackendError(
            f"{FLAVOURS[flavour].title} {trt.__version__} cannot start: {log.tail()}; see that the "
            "NVIDIA driver is new enough for it (`allfocus doctor` tells its version)"
        ) from error


def _parse(trt: Any, builder: Any, onnx_file: Path, flavour: Flavour) -> Any:
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, error_log(trt).logger)
    if not parser.parse_from_file(str(onnx_file)):
        found = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(f"{e.node_operator()} {e.node_name()!r}: {e.desc()}" for e in found)
        raise ArtefactError(
            f"{onnx_file}: {FLAVOURS[flavour].title} {trt.__version__} cannot read it: {reasons}; "
            "use a newer release, or export the graph without these operators"
        )
    return network


def _set_targets(trt: Any, config: Any, targets: tuple[str, ...]) -> None:
    known = trt.ComputeCapability.__members__
    missing = [target for target in targets if target.upper() not in known]
    if missing:
        raise BackendError(
            f"TensorRT for RTX {trt.__version__} cannot build for {', '.join(missing)}: install a "
            "newer release, or leave them out of --target"
        )
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        config.set_compute_capability(known[target.upper()], index)


def _add_profile(builder: Any, config: Any, graph: Graph) -> None:
    assert graph.shapes is not None
    sizes = (graph.shapes.min, graph.shapes.opt, graph.shapes.max)
    profile = builder.create_optimization_profile()
    profile.set_shape("image", *(input_shape(graph.io, size) for size in sizes))
    config.add_optimization_profile(profile)


def _build(trt: Any, builder: Any, network: Any, config: Any, flavour: Flavour) -> bytes:
    with monitored(trt, config) as cancel:
        plan = cancellable(lambda: builder.build_serialized_network(network, config), cancel)
    if plan is None:
        raise BackendError(
            f"{FLAVOURS[flavour].title} {trt.__version__} could not build the engine: "
            f"{error_log(trt).tail()}; smaller frames need less memory, and --precision fp32 "
            "avoids most kernels that are missing"
        )
    return bytes(plan)
