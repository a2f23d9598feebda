"""A golden frame: what a graph answered when it was exported, asked again when it is loaded.

Engines that start, run, and compute something else do exist: a driver's bug, a damaged file, a
library of another build. The frame is a pattern that everybody can draw; the answer, some hundred
values of each output, stands in the ONNX file's metadata and in the engine's manifest.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from allfocus.runtime.abilities import lacks
from allfocus.runtime.backend import Array, Backend
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.frame import peak
from allfocus.runtime.layout import as_frame, as_tensor, frame_layout, layout
from allfocus.runtime.probe import ON_CPU
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import YUV, Color, Graph, Size

_ANY = Size(96, 64)  # pixels: for a graph that takes any size
_VALUES = 600  # of each output, spread evenly
# Of 1, white: the largest and the mean deviation, by what the engine computes in. Half precision,
# other orders of summation and TF32 stay far below; what computes something else does not. A file
# of float32 that OpenVINO computes in bf16 was measured by no export: its limit is a gate, too. Of
# the packaged models defocusgan-lite does not pass (0.090, 0.0075; it would lose 0.36 dB); all
# others stay below 0.015 and 0.004, and lose less than 0.001 dB. For int8, which its export has
# measured, didanet-lite in OpenVINO is up to 0.046 and 0.0058 off ONNX Runtime, or float32.
_LARGEST = {"fp32": 0.03, "fp16": 0.12, "bf16": 0.04, "int8": 0.15, "fp8": 0.15}
_MEAN = {"fp32": 0.003, "fp16": 0.012, "bf16": 0.006, "int8": 0.015, "fp8": 0.015}


@dataclass(frozen=True)
class Canary:
    """The answers to the golden frame: values of each output, and the length of its vector."""

    context: int
    answers: dict[str, Array]

    def to_text(self) -> str:
        """One line for metadata."""
        coded = {
            name: base64.b64encode(values.astype("<f2").tobytes()).decode()
            for name, values in self.answers.items()
        }
        return json.dumps({"context": self.context, "answers": coded}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Canary:
        """Inverse of `to_text`; raises ArtefactError on anything else."""
        try:
            data = json.loads(text)
            answers = {
                str(name): np.frombuffer(base64.b64decode(values), "<f2").astype(np.float32)
                for name, values in data["answers"].items()
            }
            return cls(int(data["context"]), answers)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(f"the golden frame's answers cannot be read ({error})") from None


def size_for(graph: Graph, multiple: int) -> Size:
    """The golden frame's size."""
    return graph.shapes.opt if graph.shapes else _ANY.padded(multiple)


def draw(graph: Graph, size: Size, context: int) -> dict[str, Array]:
    """The golden inputs in the layout of `graph`: slopes and edges, from whole numbers alone."""
    return {name: _drawn(name, graph, size, context) for name in graph.signature.inputs}


def sampled(outputs: Mapping[str, Array], graph: Graph) -> dict[str, Array]:
    """Some values of each output, as float32 where 1 is white."""
    return {name: _values(name, array, graph) for name, array in outputs.items()}


def check(backend: Backend) -> None:
    """Run the golden frame, if the artefact has one.

    Raises ArtefactError where the answer is another one than at export.
    """
    if not backend.canary:
        return
    golden = Canary.from_text(backend.canary)
    size = size_for(backend.graph, backend.spec.multiple)
    found = sampled(backend.run(draw(backend.graph, size, golden.context)), backend.graph)
    for name, expected in golden.answers.items():
        if name not in found or found[name].shape != expected.shape:
            raise ArtefactError(_refusal(backend, f"gives no {name!r} as it did"))
        white = max(1.0, float(np.abs(expected).max())) if KINDS[name] == "vector" else 1.0
        off = np.abs(found[name] - expected) / white
        largest, mean = float(off.max()), float(off.mean())
        kind = backend.precision  # that it computes in, which may not be the file's
        if not (largest <= _LARGEST[kind] and mean <= _MEAN[kind]):  # NaN is refused too
            raise ArtefactError(
                _refusal(backend, f"gives {name!r} off by {largest:.3g} at most, {mean:.3g} mean")
            )


def _refusal(backend: Backend, what: str) -> str:
    advice = "Export it again with `allfocus export --force`, update the driver, or take another"
    if backend.precision == "int8" and backend.name in ON_CPU and lacks("int8"):
        advice = "This CPU's sums of 8 bits overflow: take precision fp32 or auto, or another"
    elif backend.precision != backend.graph.precision:
        able = f"{backend.graph.precision} or int8"
        advice = (
            f"{backend.precision} is too coarse for this net: take precision {able}, or another"
        )
    return (
        f"{backend.artefact}: for a frame whose answer is known, {backend.name} {what} (1 is "
        f"white): its pictures would be wrong without anybody noticing. {advice} backend"
    )


def _drawn(name: str, graph: Graph, size: Size, context: int) -> Array:
    wanted = layout(name, graph.io)
    if KINDS[name] == "vector":
        values = (np.arange(context) * 37 % 64) / 64 - 0.25
        return np.asarray(values, np.float32).reshape(wanted.shape(size, context))
    y, x = np.mgrid[: size.height, : size.width]
    if KINDS[name] == "plane":
        return np.asarray((x // 8 + y // 16) % 8 / 8, np.float32).reshape(wanted.shape(size))
    if graph.io == "float":
        channels = [_channel(x, y, channel) for channel in range(3)]
        return (np.stack(channels) / np.float32(255)).astype(np.float32).reshape(wanted.shape(size))
    levels = _luma_chroma(x, y) if graph.io in YUV else _colours(x, y, graph.color)
    kind = frame_layout(name, graph.io).dtype
    if graph.io == "frame16":
        levels = 256 * levels + 255 - levels  # both bytes matter
    elif graph.io == "p010":
        levels = 256 * levels
    return as_tensor(name, levels[None].astype(kind), graph.io)


def _colours(x: Array, y: Array, color: Color) -> Array:
    """[H, W, 3] of 0 to 255."""
    order = range(3) if color == "rgb" else reversed(range(3))
    return np.stack([_channel(x, y, channel) for channel in order], axis=-1)


def _luma_chroma(x: Array, y: Array) -> Array:
    """[3H/2, W] of 0 to 255, of pale colours."""
    height, width = x.shape
    pairs = [_channel(x[::2, ::2], y[::2, ::2], channel) // 4 + 96 for channel in (1, 2)]
    return np.concatenate([_channel(x, y, 0), np.stack(pairs, axis=-1).reshape(height // 2, width)])


def _channel(x: Array, y: Array, channel: int) -> Array:
    """A slope that goes up and down, and squares of another brightness on it: 0 to 255.

    At the left the squares have sharp edges, at the right soft ones: where it found nothing out of
    focus, a net would have nothing to do, and nothing would be tried.
    """
    slope = np.abs((2 * x + 3 * y + 40 * channel) % 256 - 128)  # 0 to 128
    sharp = (x // 16 + y // 12) % 2
    soft = _wave(x, 16) + _wave(y, 20)
    height = 60 + 20 * channel
    squares = np.where(2 * x <= x.max(), height * sharp, height * soft // 510)
    return np.asarray(20 + slope + squares)


def _wave(x: Array, length: int) -> Array:
    """Up from 0 to 255 or down again every `length` pixels, each time over 10 of them."""
    away = np.abs(x % (2 * length) - length) - length // 2
    return np.asarray(np.clip(25 * (away + 5), 0, 255))


def _values(name: str, array: Array, graph: Graph) -> Array:
    samples = as_frame(name, array, graph.io)
    flat = samples.reshape(-1)
    positions = np.linspace(0, flat.size - 1, min(_VALUES, flat.size)).astype(int)
    return np.asarray(flat[positions], np.float32) / np.float32(peak(samples.dtype))
