"""What a caller must know of a model (`Spec`) and of one export of it (`Graph`).

Both are written as JSON into the ONNX file's metadata and into the manifest beside an engine,
and read back by the runtime, which has neither torch nor onnx.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from allfocus.runtime.errors import ArtefactError, UsageError
from allfocus.runtime.signature import DEBLUR, Phase, Signature

SPEC_KEY = "allfocus.spec"  # metadata keys of the ONNX file
GRAPH_KEY = "allfocus.graph"
CANARY_KEY = "allfocus.canary"  # what it answers to the golden frame; see `canary`
MEMORY_KEY = "allfocus.memory"  # bytes a pixel that a run takes; see export.footprint
LOSS_KEY = "allfocus.loss"  # JSON: decibels that int8 cost, and the limit; see export
RANDOM = "random weights"  # how the provenance of untrained ones begins

Io = Literal["frame", "float", "frame16", "nv12", "p010"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "fp8"]
Wanted = Precision | Literal["auto"]  # "auto": the fastest there is a file for
Color = Literal["rgb", "bgr"]
Matrix = Literal["bt601", "bt709", "bt2020"]
Range = Literal["limited", "full"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
IOS: tuple[Io, ...] = get_args(Io)
USUAL: tuple[Io, ...] = ("frame", "float")  # those that take any colour frame of 8 bits
YUV: tuple[Io, ...] = ("nv12", "p010")  # faces of luma and chroma, which is at half the resolution

T = TypeVar("T")


def from_fields(kind: type[T], data: Any, what: str) -> T:
    """Build the flat dataclass `kind` from `data`, naming missing or unknown keys, wrong types."""
    if not isinstance(data, dict):
        raise ArtefactError(f"{what}: expected an object, got {type(data).__name__}")
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    missing, extra = sorted(names - set(data)), sorted(set(data) - names)
    if missing or extra:
        raise ArtefactError(
            f"{what}: missing keys {missing}, unknown keys {extra}; it was written by another "
            "version of allfocus: export it again with `allfocus export --force`"
        )
    for name, hint in get_type_hints(kind).items():
        if not _fits(data[name], hint):
            expected = getattr(hint, "__name__", hint)
            raise ArtefactError(f"{what}: {name}: expected {expected}, got {data[name]!r}")
    return kind(**data)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value suits a field's type; nested dataclasses are checked by their own."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin in (tuple, dict):
        return isinstance(value, list if origin is tuple else dict)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return hint not in (str, bool) or isinstance(value, hint)


@dataclass(frozen=True, kw_only=True)
class Spec:
    """The whole truth about a model that a caller needs."""

    name: str
    version: int
    multiple: int  # height and width must be multiples of this many pixels
    halo: int  # receptive-field radius in pixels: margin a tile needs to equal the whole image
    global_context: bool  # True where something is pooled over the whole image
    color: str  # channel order the net was trained on; always "rgb"
    max_radius: float  # blur radius in pixels at map value 1; 0 where the model gives no map
    parameters: int
    macs_per_pixel: float  # multiply-accumulates per input pixel
    weights: str  # where the weights come from, in a sentence
    weights_sha256: str  # of the checkpoint's tensors; see train.checkpoint.fingerprint
    license: str  # terms of the weights
    paper: str

    @property
    def untrained(self) -> bool:
        """Whether the weights are random ones, whose pictures are worth nothing."""
        return self.weights.startswith(RANDOM)

    def to_json(self) -> str:
        """One line of JSON with sorted keys, so that equal Specs have equal text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """Inverse of `to_json`; raises ArtefactError on anything else."""
        return from_fields(cls, _parse(text, "Spec"), "Spec")


@dataclass(frozen=True, order=True)
class Size:
    """A picture's size in pixels. Its text form is WIDTHxHEIGHT, as cameras write it."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UsageError(f"size {self}: width and height must be at least 1")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read "600x400"; raises UsageError."""
        parts = text.lower().split("x")
        if len(parts) != 2 or not all(p.isdecimal() for p in parts):
            raise UsageError(f"size {text!r}: expected WIDTHxHEIGHT in pixels, such as 600x400")
        return cls(int(parts[0]), int(parts[1]))

    @property
    def area(self) -> int:
        """Its pixels."""
        return self.width * self.height

    def within(self, other: Size) -> bool:
        """Whether it is neither wider nor higher than `other`."""
        return self.width <= other.width and self.height <= other.height

    def at_least(self, other: Size) -> Size:
        """The smallest size that both are within."""
        return Size(max(self.width, other.width), max(self.height, other.height))

    def padded(self, multiple: int) -> Size:
        """The smallest size not under this one whose sides are multiples of `multiple`."""
        return Size(-(-self.width // multiple) * multiple, -(-self.height // multiple) * multiple)


@dataclass(frozen=True)
class Shapes:
    """The sizes a graph or engine takes: from `min` to `max`, tuned for `opt`."""

    min: Size
    opt: Size
    max: Size

    def __post_init__(self) -> None:
        for small, large, names in (
            (self.min, self.opt, "min, opt"),
            (self.opt, self.max, "opt, max"),
        ):
            if not small.within(large):
                raise UsageError(f"sizes {names}: {small} is not within {large}")

    @classmethod
    def static(cls, size: Size) -> Shapes:
        """Shapes of a graph that takes one size only."""
        return cls(size, size, size)

    @property
    def is_static(self) -> bool:
        """True where only one size is taken."""
        return self.min == self.max

    def __str__(self) -> str:
        return str(self.opt) if self.is_static else f"{self.min}-{self.opt}-{self.max}"

    def to_list(self) -> list[str]:
        """`[min, opt, max]` as text, for JSON."""
        return [str(self.min), str(self.opt), str(self.max)]

    @classmethod
    def from_list(cls, items: list[str]) -> Shapes:
        """Inverse of `to_list`."""
        try:
            smallest, tuned, largest = (Size.parse(item) for item in items)
            return cls(smallest, tuned, largest)
        except (UsageError, TypeError, ValueError, AttributeError):
            raise ArtefactError(f"shapes: expected [min, opt, max], got {items!r}") from None


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One export of a model: its phase, the face it shows, its precision, and the sizes it takes.

    `frame`: pictures are uint8 [1, H, W, 3] in `color` order, planes float32 [1, H, W].
    `frame16`: the same of uint16, whose bytes the graph takes, low ones first: uint8 [1, H, W, 6].
    `nv12`: pictures are uint8 [1, 3H/2, W], luma above interleaved chroma; `p010`: the same of
    uint16 with 10 bits in the high ones, as bytes: uint8 [1, 3H/2, W, 2]. H and W are even.
    `float`: pictures are float32 [1, 3, H, W] in [0, 1], always RGB, and not clipped where they
    come out; planes are float32 [1, 1, H, W].
    Vectors are float32 [1, K, 1, 1] in all. What is a picture, a plane or a vector, and what it
    holds, is told by its name: see `signature`.
    """

    io: Io
    precision: Precision
    color: Color
    shapes: Shapes | None  # None: any size that is a multiple of Spec.multiple
    phase: Phase = "whole"
    signature: Signature = DEBLUR
    matrix: Matrix = "bt709"  # of nv12 and p010: how luma and chroma are made of RGB
    range: Range = "limited"  # of nv12 and p010: "limited" where black is 16 of 255

    @property
    def face(self) -> str:
        """The face for people: frame rgb, or nv12 bt709 limited."""
        kind = f"{self.matrix} {self.range}" if self.io in YUV else self.color
        return f"{self.io} {kind}"

    def to_json(self) -> str:
        """One line of JSON with sorted keys."""
        return json.dumps(self.to_dict(), sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; `matrix` and `range` only where the face has them."""
        yuv = {"matrix": self.matrix, "range": self.range} if self.io in YUV else {}
        return {
            "io": self.io,
            "precision": self.precision,
            "color": self.color,
            "shapes": self.shapes.to_list() if self.shapes else None,
            "phase": self.phase,
            "signature": self.signature.to_dict(),
            **yuv,
        }

    @classmethod
    def from_dict(cls, data: Any) -> Graph:
        """Inverse of `to_dict`; raises ArtefactError on anything else."""
        if isinstance(data, dict) and data.get("io") not in YUV:
            data = {"matrix": cls.matrix, "range": cls.range, **data}
        raw = from_fields(cls, data, "Graph")
        shapes = raw.shapes
        if shapes is not None:
            shapes = Shapes.from_list(shapes)  # type: ignore[arg-type]
        return replace(raw, shapes=shapes, signature=Signature.from_dict(raw.signature))

    @classmethod
    def from_json(cls, text: str) -> Graph:
        """Inverse of `to_json`; raises ArtefactError on anything else."""
        return cls.from_dict(_parse(text, "Graph"))


def _parse(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ArtefactError(f"{what}: not JSON ({error})") from None
