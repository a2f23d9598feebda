"""From an ONNX file to an engine, by TensorRT or TensorRT for RTX: the only use of trt.Builder.

Networks are strongly typed: precision is what the ONNX graph says, in all releases alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allfocus.export.flavour import Target
from allfocus.export.nodes import all_nodes
from allfocus.export.progress import cancellable, monitored
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.layout import layout
from allfocus.runtime.manifest import Flavour
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Graph
from allfocus.runtime.trt_engine import FLAVOURS, error_log, import_flavour
from allfocus.runtime.trt_plugins import load_plugins

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Built:
    """A serialised engine, and the version that built it as its module tells it."""

    data: bytes
    version: str
    plugins: bool  # whether this project's plugins are in it


def build_engine(
    onnx_file: Path, graph: Graph, target: Target, *, plugins: Path | None = None
) -> Built:
    """Build the engine of `onnx_file` for `target`; on Ctrl-C the build ends and nothing is kept.

    `plugins` is the library whose plugins do the operations that have one; None: there are none.
    Raises BackendError where the flavour is not installed or cannot build here, and ArtefactError
    for a graph it cannot take.
    """
    trt = import_flavour(target.flavour)
    if target.flavour == "tensorrt-rtx":
        assert plugins is None, "its parser would end the process; see make_plan"
        check_operators(onnx_file)
    source = _read(onnx_file, plugins)
    builder = _start(trt, target.flavour)
    if source.plugins is not None:
        load_plugins(trt, source.plugins, error_log(trt), target.targets)
    network = _parse(trt, builder, source, target.flavour)
    config = builder.create_builder_config()
    _set_flags(trt, config, target.flavour)
    if target.flavour == "tensorrt-rtx":
        _set_targets(trt, config, target.targets)
    if graph.shapes is not None and not graph.shapes.is_static:
        _add_profile(builder, config, graph)
    data = _build(trt, builder, network, config, target.flavour)
    return Built(data, trt.__version__, source.plugins is not None)


def check_operators(onnx_file: Path) -> None:
    """Refuse operators that are neither standard ONNX nor functions of the file itself.

    TensorRT for RTX would look for a plugin of that name, and where one is registered its parser
    ends the whole process. Raises ArtefactError with the operators' names.
    """
    import onnx

    model = _load(onnx_file)
    own = {(function.domain, function.name) for function in model.functions}
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    unknown = {
        f"{node.domain or 'ai.onnx'}::{node.op_type}"
        for body in bodies
        for node in all_nodes(body)
        if (node.domain, node.op_type) not in own and not onnx.defs.has(node.op_type, node.domain)
    }
    if unknown:
        raise ArtefactError(
            f"{onnx_file}: TensorRT for RTX has no plugins, and the graph needs "
            f"{', '.join(sorted(unknown))}; use --backend tensorrt, or export the graph with these "
            "operators as ONNX functions"
        )


@dataclass(frozen=True)
class _Input:
    """What the parser reads: `data` where it is not the file as it stands."""

    file: Path
    data: bytes | None
    plugins: Path | None  # the library that `data` needs


def _read(onnx_file: Path, plugins: Path | None) -> _Input:
    """The graph without functions: nodes for `plugins` in their place, or else what they hold.

    TensorRT's parser takes functions too, but their inner names come again with every call, and it
    warns of each.
    """
    from onnx.inliner import inline_local_functions

    from allfocus.export import ops

    model = _load(onnx_file)
    if plugins is not None and ops.has_operations(model):
        return _Input(onnx_file, ops.plugin_form(model).SerializeToString(), plugins)
    if model.functions:
        inlined = inline_local_functions(model)
        return _Input(onnx_file, inlined.SerializeToString(), None)
    return _Input(onnx_file, None, None)


def _load(onnx_file: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(str(onnx_file))
    except DecodeError as error:
        raise ArtefactError(f"{onnx_file}: damaged, or not an ONNX file ({error})") from None


def _start(trt: Any, flavour: Flavour) -> Any:
    log = error_log(trt)
    log.forget_all()
    try:
        return trt.Builder(log.logger)
    except (TypeError, RuntimeError) as error:  # pybind11's "factory function returned nullptr"
        raise BackendError(
            f"{FLAVOURS[flavour].title} {trt.__version__} cannot start: {log.tail()}; see that the "
            "NVIDIA driver is new enough for it (`allfocus doctor` tells its version)"
        ) from error


def _parse(trt: Any, builder: Any, source: _Input, flavour: Flavour) -> Any:
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, error_log(trt).logger)
    if source.data is None:
        parsed = parser.parse_from_file(str(source.file))
    else:
        parsed = parser.parse(source.data)
    if not parsed:
        where = f"{source.file}: {FLAVOURS[flavour].title} {trt.__version__}"
        found = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(f"{e.node_operator()} {e.node_name()!r}: {e.desc()}" for e in found)
        raise ArtefactError(
            f"{where} cannot read it: {reasons}; use a newer release, or export the graph without "
            f"these operators{' (--plugins off)' if source.plugins else ''}"
        )
    return network


def _set_flags(trt: Any, config: Any, flavour: Flavour) -> None:
    """What is on or off by default and should not be.

    TF32 rounds what float32 convolutions take to ten bits: float32 would be as coarse as float16,
    and the layers that are kept in it would gain nothing but range. RTX otherwise may allocate
    memory while it runs, beside what it says it takes, and cannot be captured in a graph then.
    """
    config.clear_flag(trt.BuilderFlag.TF32)
    if flavour == "tensorrt-rtx":
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


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
    """The engine's one profile, which all its execution contexts use at once.

    TensorRT from 10.0 on lets them share it, and so does RTX: before, PROFILE_SHARING_0806 had to
    be switched on, which is on by default in 10 and gone in RTX.
    """
    assert graph.shapes is not None
    sizes = (graph.shapes.min, graph.shapes.opt, graph.shapes.max)
    profile = builder.create_optimization_profile()
    for name in graph.signature.inputs:
        if KINDS[name] != "vector":  # which has one length
            profile.set_shape(name, *(layout(name, graph.io).shape(size) for size in sizes))
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
