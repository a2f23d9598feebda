"""The benchmarks' JSON. These dataclasses are its schema, for who writes it and for who reads it.

`encode` makes the text; `decode` reads it back and names the first place that does not fit. Units
stand in the names: `_ms` milliseconds, `_bytes` bytes, `flops` and `macs` operations (not rates).
"""

from __future__ import annotations

import json
import math
import types
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.spec import Precision

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
# What a contender is: this project's runtime, eager PyTorch that it is compared with, or a
# deconvolution under the model's map.
Role = Literal["runtime", "baseline", "classical"]
FLOPS: Literal["allfocus/flops/1"] = "allfocus/flops/1"
LATENCY: Literal["allfocus/latency/1"] = "allfocus/latency/1"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One NVIDIA GPU, as its driver describes it."""

    name: str
    target: str  # compute capability, such as "sm89"
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How fast and how warm a GPU ran; null where nvidia-smi does not know."""

    gpu: str
    sm_mhz: int | None
    memory_mhz: int | None
    celsius: int | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and when something was measured."""

    date: str  # UTC, ISO 8601
    cpu: str
    cores: int  # that this process may use
    features: tuple[str, ...]  # instruction sets that matter for inference
    memory_bytes: int
    os: str
    python: str
    packages: dict[str, str]  # version of each engine or library that is installed
    gpus: tuple[Gpu, ...]
    driver: str | None  # of the GPUs
    clocks: tuple[Clock, ...]  # at the end of the measurement
    load_start: float | None  # load average of the last minute; null where the OS has none
    load_end: float | None


@dataclass(frozen=True, kw_only=True)
class Quoted:
    """What a paper reports. Quoted, never measured here, and on hardware of its own."""

    source: str
    size: str
    seconds: float
    hardware: str
    flops: int
    parameters: int
    note: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one pass through a layer, or through a whole net, costs."""

    macs: int
    flops: int  # 2 for each multiply-accumulate
    parameters: int
    activation_bytes: int  # inputs read once and outputs written once
    weight_bytes: int  # weights read once
    flop_per_byte: float  # arithmetic intensity: flops / (activation_bytes + weight_bytes)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution or linear layer."""

    name: str
    kind: str
    output: tuple[int, ...]  # [N, C, H, W]
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class FlopsReport:
    """What `allfocus bench flops` writes."""

    schema: Literal["allfocus/flops/1"]
    machine: Machine
    model: str
    size: str  # as asked for
    padded: str  # what the net sees: the next multiple of Spec.multiple
    precision: Precision  # 4 or 2 bytes for each activation and weight
    layers: tuple[Layer, ...]
    total: Cost
    paper: Quoted | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Stats:
    """A sample's middle and spread; `mad` is the median absolute deviation from the median."""

    median: float
    p05: float
    p95: float
    mad: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Peak use of a process of its own that loads this contender and runs it."""

    rss_bytes: int
    gpu_bytes: int | None  # growth of the GPU's used memory; null without a GPU


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender of `allfocus bench latency`."""

    name: str
    role: Role
    precision: Precision
    pre_ms: Stats
    infer_ms: Stats
    post_ms: Stats
    total_ms: Stats  # the whole call, by the caller's clock
    samples_ms: tuple[float, ...]  # of `total_ms`, in the order they were taken
    frames_per_second: float
    megapixels_per_second: float
    pre_post_share: float  # (pre + post) / total, of the medians
    memory: Memory
    speedup: Stats | None  # time of the baseline on the same device / this one's, round by round
    max_difference: int | None  # from the baseline's picture, in levels of 255


@dataclass(frozen=True, kw_only=True)
class LatencyReport:
    """What `allfocus bench latency` writes."""

    schema: Literal["allfocus/latency/1"]
    machine: Machine
    model: str
    weights: str
    size: str
    precision: Precision  # of the runtime's graph
    threads: int  # CPU threads each contender may use
    warmup: int  # rounds not counted
    repeats: int  # rounds counted
    rows: tuple[Row, ...]
    skipped: dict[str, str]  # backend -> why it was not measured
    paper: Quoted | None
    notes: tuple[str, ...]


def encode(report: DataclassInstance) -> str:
    """Indented JSON without NaN or infinity, which JSON does not have."""
    return json.dumps(asdict(report), indent=2, allow_nan=False) + "\n"


def decode(kind: type[T], text: str) -> T:
    """Inverse of `encode`; raises ArtefactError that names the first place that does not fit."""
    try:
        data: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise ArtefactError(f"{kind.__name__}: not JSON ({error}); measure again") from None
    value: T = _value(kind, data, kind.__name__)
    return value


def _value(kind: Any, data: Any, where: str) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return _object(kind, data, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        optional = next(a for a in arguments if a is not type(None))
        return None if data is None else _value(optional, data, where)
    if origin is Literal:
        return data if data in arguments else _refuse(where, f"one of {list(arguments)}", data)
    if origin is tuple:
        items = data if isinstance(data, list) else _refuse(where, "a list", data)
        return tuple(_value(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(items))
    if origin is dict:
        pairs = data if isinstance(data, dict) else _refuse(where, "an object", data)
        return {k: _value(arguments[1], v, f"{where}.{k}") for k, v in pairs.items()}
    return _scalar(kind, data, where)


def _object(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        _refuse(where, "an object", data)
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    missing, extra = sorted(set(names) - set(data)), sorted(set(data) - set(names))
    if missing or extra:
        raise ArtefactError(f"{where}: missing keys {missing}, unknown keys {extra}; measure again")
    return kind(**{n: _value(hints[n], data[n], f"{where}.{n}") for n in names})


def _scalar(kind: type, data: Any, where: str) -> Any:
    number = isinstance(data, (int, float)) and not isinstance(data, bool)
    if kind is float and number and math.isfinite(data):
        return float(data)
    if kind is not float and type(data) is kind:
        return data
    return _refuse(where, kind.__name__, data)


def _refuse(where: str, expected: str, data: Any) -> Any:
    raise ArtefactError(f"{where}: expected {expected}, got {data!r}; measure again")
