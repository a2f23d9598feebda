"""The command that exports a model again as it was exported: what errors advise."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.onnx_file import metadata
from allfocus.runtime.spec import SPEC_KEY, YUV, Graph, Shapes, Size, Spec


def engine_command(spec: Spec, graph: Graph, engine: Path, flavour: str, *options: str) -> str:
    """`allfocus export` with all that makes another `engine` in the place of that one."""
    return _command(spec, graph, graph.shapes, [f"--backend {flavour}", *options, *_out(engine)])


def larger_command(spec: Spec, graph: Graph, file: Path, backend: str, size: Size) -> str:
    """`allfocus export` with all that makes a graph like that of `file`, for frames of `size`."""
    if file.suffix != ".onnx":
        options = [f"--backend {backend}"]
    elif graph.precision == "int8" and backend == "openvino":
        options = ["--onnx-only", "--for openvino"]  # other precisions are for any engine
    else:
        options = ["--onnx-only"]
    return _command(spec, graph, Shapes.static(size), [*options, *_out(file)])


def _command(spec: Spec, graph: Graph, shapes: Shapes | None, options: list[str]) -> str:
    known = [f"--model {spec.name}", *_weights(spec)]
    if graph.phase != "whole":
        known.append(f"--phase {graph.phase}")
    known += [f"--precision {graph.precision}", *_face(graph), *_sizes(shapes)]
    return " ".join(("allfocus export", *known, *options))


def _weights(spec: Spec) -> list[str]:
    """Nothing for the package's own."""
    if spec.untrained:
        seed = re.search(r"seed (\d+)", spec.weights)
        return [f"--weights random:{seed[1] if seed else 0}"]
    try:
        own = Spec.from_json(metadata(packaged_onnx(spec.name)).get(SPEC_KEY, ""))
    except ArtefactError:  # the package has none
        return ["--weights FILE"]
    return [] if own.weights_sha256 == spec.weights_sha256 else ["--weights FILE"]


def _face(graph: Graph) -> list[str]:
    options = [] if graph.io == "frame" else [f"--io {graph.io}"]
    if graph.io in YUV:
        return [*options, f"--matrix {graph.matrix}", f"--range {graph.range}"]
    return options if graph.color == "rgb" else [*options, f"--color {graph.color}"]


def _sizes(shapes: Shapes | None) -> list[str]:
    if shapes is None:
        return []
    if shapes.is_static:
        return [f"--size {shapes.opt}"]
    return [f"--min {shapes.min}", f"--opt {shapes.opt}", f"--max {shapes.max}"]


def _out(file: Path) -> list[str]:
    """Where it stands, unless that is the cache, which is what `allfocus export` fills."""
    folder = file.absolute().parent
    inside = folder == packaged_onnx("x").parent or folder.is_relative_to(cache_dir().absolute())
    return [] if inside else [f"--out {shlex.quote(str(file.parent))}"]
