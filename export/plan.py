"""What an export shall make, settled from its options before any work starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from allfocus.export import weights as weights_option
from allfocus.export.face_options import face_of
from allfocus.export.flavour import Target, choose, parse_targets
from allfocus.export.histogram import Method
from allfocus.export.reduction import Reduction, check_able, reduction_of
from allfocus.export.weights import Weights
from allfocus.kernels.plugin_library import find_plugins, require_plugins
from allfocus.runtime.catalogue import entry
from allfocus.runtime.errors import UsageError, nearest
from allfocus.runtime.layout import multiple_in
from allfocus.runtime.signature import Phase
from allfocus.runtime.spec import (
    USUAL,
    Color,
    Graph,
    Io,
    Matrix,
    Precision,
    Range,
    Shapes,
    Size,
)
from allfocus.runtime.trt_plugins import unfit

DEFAULT_SIZE = Size(600, 400)  # pixels; the size of the paper's timings
PLUGINS = ("auto", "on", "off")
AUTO = "auto"  # of --fp32-layers


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One export: which net, which graph, and for what; `target` None makes the ONNX file alone.

    `plugins` is the library whose plugins do the operations that have one; None: there are none.
    """

    model: str
    weights: Weights
    graph: Graph
    target: Target | None
    plugins: Path | None = None
    fp32_layers: tuple[str, ...] = ()  # patterns of layers, or AUTO alone; not in 8 bits either
    reduction: Reduction | None = None  # to 8 bits

    @property
    def stem(self) -> str:
        """File name without ending: didanet-fp16-600x400, didanet-restore-fp16-600x400,
        didanet-nv12-fp16-600x400, or didanet-int8-openvino-600x400."""
        phase = "" if self.graph.phase == "whole" else f"-{self.graph.phase}"
        face = "" if self.graph.io in USUAL else f"-{self.graph.io}"
        purpose = "ort" if self.reduction is None else self.reduction.purpose
        precision = self.graph.precision + ("" if purpose == "ort" else f"-{purpose}")
        return f"{self.model}{phase}{face}-{precision}-{self.graph.shapes}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line's options, as text; None where one was not given."""

    model: str
    weights: str | None = None
    phase: Phase = "whole"
    precision: Precision | Literal["auto"] = "fp16"
    purpose: str | None = None  # --for
    calibrate: Path | None = None
    ranges: Path | None = None
    method: Method = "mse"
    max_loss: str | None = None
    accept_loss: bool = False
    size: str | None = None
    min: str | None = None
    opt: str | None = None
    max: str | None = None
    io: Io = "frame"
    color: Color = "rgb"
    matrix: Matrix | None = None
    range: Range | None = None
    backend: str = "auto"
    target: str | None = None
    onnx_only: bool = False
    plugins: str = "auto"
    fp32_layers: str | None = None


def make_plan(options: Options) -> tuple[Plan, list[str]]:
    """The Plan of `options`, and notes about what was changed to make them fit.

    Raises UsageError (UnknownModelError, ...) for options that cannot be meant, and BackendError
    where nothing here can build the engine.
    """
    model = entry(options.model)
    signature = model.signature(options.phase)
    face = face_of(options.io, options.color, options.matrix, options.range)
    shapes, notes = _shapes(options, multiple_in(options.io, model.multiple))
    reduction = reduction_of(options)
    if options.target is not None:  # before it is looked for what builds engines here
        check_able(options.precision, parse_targets(options.target))
    target = _target(options)
    check_able(options.precision, target.targets if target else ())
    plugins, told = _plugins(options.plugins, target)
    plan = Plan(
        model=options.model,
        weights=weights_option.parse(options.weights, options.model),
        graph=Graph(
            **face,
            precision=reduction.kind if reduction else options.precision,  # type: ignore[arg-type]
            shapes=shapes,
            phase=options.phase,
            signature=signature,
        ),
        target=target,
        plugins=plugins,
        fp32_layers=_fp32_layers(options),
        reduction=reduction,
    )
    return plan, [*notes, *told]


def _fp32_layers(options: Options) -> tuple[str, ...]:
    if options.fp32_layers is None:
        return ()
    if options.precision not in ("fp16", "bf16", "int8", "fp8"):
        raise UsageError(
            f"--fp32-layers with --precision {options.precision}: for fp16, bf16, int8, fp8 only"
        )
    if options.fp32_layers == AUTO and options.precision != "fp16":
        raise UsageError(
            f"--fp32-layers auto with --precision {options.precision}: it is for fp16; --precision "
            "auto finds the layers that 8 bits hurt"
        )
    patterns = tuple(part.strip() for part in options.fp32_layers.split(","))
    if not all(patterns) or (AUTO in patterns and len(patterns) > 1):
        raise UsageError(
            f"--fp32-layers {options.fp32_layers!r}: expected layers such as tail,blocks.0.*, or "
            f"{AUTO} alone"
        )
    return patterns


def _target(options: Options) -> Target | None:
    if not options.onnx_only:
        return choose(options.backend, options.target)
    if options.target is not None or options.backend != "auto" or options.plugins == "on":
        raise UsageError(
            "--onnx-only makes no engine: leave out --backend, --target and --plugins on"
        )
    return None


def _plugins(choice: str, target: Target | None) -> tuple[Path | None, list[str]]:
    """The plugin library of `--plugins`, and notes; "auto" takes it where TensorRT builds, and it
    is there and holds code for the GPU."""
    if choice not in PLUGINS:
        raise UsageError(f"unknown --plugins {choice!r}: {nearest(choice, PLUGINS)}")
    if choice == "off" or target is None:
        return None, []
    if target.flavour == "tensorrt":
        if choice == "on":
            return require_plugins(), []
        found = find_plugins()
        problem = unfit(found, target.targets) if found else ""
        return (None, [f"without plugins: {problem}"]) if problem else (found, [])
    if choice == "on":
        raise UsageError(
            "--plugins on: TensorRT for RTX cannot use plugins (its parser ends the whole process "
            "when it meets one); use --backend tensorrt, or leave --plugins at auto"
        )
    return None, []


def _shapes(options: Options, multiple: int) -> tuple[Shapes, list[str]]:
    ends = {"--min": options.min, "--opt": options.opt, "--max": options.max}
    if not any(ends.values()):
        return one_size(options.size, multiple)
    if options.size is not None or not all(ends.values()):
        raise UsageError(
            "sizes: give either --size for one size, or --min, --opt and --max for a range"
        )
    sizes = [_aligned(name, Size.parse(text or ""), multiple) for name, text in ends.items()]
    return Shapes(*sizes), []


def one_size(text: str | None, multiple: int) -> tuple[Shapes, list[str]]:
    """Shapes of a graph for frames of the size `text`, and a note where it had to be made larger.

    None: the usual size. Raises UsageError for what is no size.
    """
    asked = DEFAULT_SIZE if text is None else Size.parse(text)
    size = asked.padded(multiple)
    note = f"--size {asked}: rounded up to {size}, multiples of {multiple}; frames are padded to it"
    return Shapes.static(size), [] if size == asked else [note]


def _aligned(name: str, size: Size, multiple: int) -> Size:
    padded = size.padded(multiple)
    if padded != size:
        raise UsageError(f"{name} {size}: not multiples of {multiple}; such as {padded}")
    return size
