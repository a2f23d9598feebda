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
_ROUNDING = 1e-9  # of a percentile, which is interpolated: it may pass the median by so much of it
_SHOWN = 80  # characters of a value that does not fit
# What a contender is: this project's runtime, eager PyTorch that all are compared with, another way
# to run PyTorch, or a deconvolution under the model's map.
Role = Literal["runtime", "baseline", "pytorch", "classical"]
Device = Literal["cpu", "cuda"]
FLOPS: Literal["allfocus/flops/1"] = "allfocus/flops/1"
LATENCY: Literal["allfocus/latency/2"] = "allfocus/latency/2"


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
class Clocks:
    """How fast the processors ran at one moment."""

    cpu_mhz: tuple[int, ...]  # of each CPU that this process may use; empty where the OS is silent
    gpus: tuple[Clock, ...]  # empty without nvidia-smi


@dataclass(frozen=True, kw_only=True)
class MatrixRate:
    """What a device reached in a large matrix product of one type, in the same run."""

    device: Device
    precision: Precision
    macs_per_second: float  # multiply-adds
    by: str  # how it was measured


@dataclass(frozen=True, kw_only=True)
class CopyRate:
    """What a device reached in copying, in the same run; bytes read and written both count."""

    device: Device
    bytes_per_second: float
    by: str


@dataclass(frozen=True, kw_only=True)
class DeviceRates:
    """The limits of the devices that contenders ran on, measured just before them."""

    matrix: tuple[MatrixRate, ...]
    copy: tuple[CopyRate, ...]
    missing: dict[str, str]  # "cpu int8" -> why it was not measured


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The same contender on frames of another size, in the same rounds."""

    size: str
    total_ms: Stats
    per_pixel: Stats  # time a pixel over that at the report's size: 1 is in proportion


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender of `allfocus bench latency`."""

    name: str
    role: Role
    device: Device
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
    matrix_share: float | None  # the net's multiply-adds / median `infer_ms` / the matrix rate
    copy_share: float | None  # its layers' bytes / median `infer_ms` / the copying rate
    gpu_ms: float | None  # of a call, in which the GPU was at work; null where no profiler saw one
    host_overhead: float | None  # 1 - gpu_ms / median `total_ms`
    beside: Beside | None  # null where no other size was asked for


@dataclass(frozen=True, kw_only=True)
class LatencyReport:
    """What `allfocus bench latency` writes."""

    schema: Literal["allfocus/latency/2"]
    machine: Machine
    model: str
    weights: str
    size: str
    skip: str  # what is passed through as in focus: "off", "auto", or a radius in pixels
    precision: Precision  # of the runtime's graph
    threads: int  # CPU threads each contender may use
    warmup: int  # rounds not counted
    repeats: int  # rounds counted
    clocks_before: Clocks  # right before the rounds
    clocks_after: Clocks  # right after them
    rates: DeviceRates
    rows: tuple[Row, ...]
    skipped: dict[str, str]  # contender or backend -> why it was not measured
    paper: Quoted | None
    notes: tuple[str, ...]


def encode(report: DataclassInstance) -> str:
    """Indented JSON without NaN or infinity, which JSON does not have."""
    return json.dumps(asdict(report), indent=2, allow_nan=False) + "\n"


def decode(kind: type[T], text: str, *, part: bool = False) -> T:
    """Inverse of `encode`; raises ArtefactError that names the first place that does not fit.

    `part`: `kind` has some of the keys only, at every depth; the others are not looked at.
    """
    try:
        data = parsed(text)
    except ValueError as error:
        raise ArtefactError(f"{kind.__name__}: not JSON ({error}); measure again") from None
    value: T = _Reader(part).value(kind, data, kind.__name__)
    return value


def parsed(text: str) -> Any:
    """JSON as Python's objects; raises ValueError for what is none, and for what is no result."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects within one another, without end") from None


@dataclass(frozen=True)
class _Reader:
    part: bool

    def value(self, kind: Any, data: Any, where: str) -> Any:
        if is_dataclass(kind) and isinstance(kind, type):
            return self._object(kind, data, where)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin in (Union, types.UnionType):
            words = [w for a in arguments if get_origin(a) is Literal for w in get_args(a)]
            if data in words or (data is None and type(None) in arguments):
                return data
            first = next(a for a in arguments if a is not type(None))
            return self.value(first, data, where)
        if origin is Literal:
            return data if data in arguments else _refuse(where, f"one of {list(arguments)}", data)
        if origin is tuple:
            items = data if isinstance(data, list) else _refuse(where, "a list", data)
            return tuple(self.value(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(items))
        if origin is dict:
            pairs = data if isinstance(data, dict) else _refuse(where, "an object", data)
            return {k: self.value(arguments[1], v, f"{where}.{k}") for k, v in pairs.items()}
        return _scalar(kind, data, where)

    def _object(self, kind: type, data: Any, where: str) -> Any:
        if not isinstance(data, dict):
            _refuse(where, "an object", data)
        hints = get_type_hints(kind)
        names = [f.name for f in fields(kind)]
        missing, extra = sorted(set(names) - set(data)), sorted(set(data) - set(names))
        if missing or (extra and not self.part):
            unknown = "" if self.part else f", unknown keys {extra}"
            raise ArtefactError(f"{where}: missing keys {missing}{unknown}; measure again")
        made = kind(**{n: self.value(hints[n], data[n], f"{where}.{n}") for n in names})
        if isinstance(made, Stats) and not _in_order(made):
            _refuse(where, "p05 <= median <= p95 and mad >= 0", data)
        for name in names:
            if name.endswith("_ms") and _least(getattr(made, name)) < 0:
                _refuse(f"{where}.{name}", "milliseconds of 0 or more", data[name])
        return made


def _in_order(stats: Stats) -> bool:
    slack = _ROUNDING * abs(stats.median)
    return stats.p05 - slack <= stats.median <= stats.p95 + slack and stats.mad >= 0


def _least(times: Stats | float | tuple[float, ...] | None) -> float:
    """The least of a field of times, whichever form it has; 0 where it has none."""
    if isinstance(times, Stats):
        return min(times.p05, times.median)
    if isinstance(times, tuple):
        return min(times, default=0.0)
    return times or 0.0


def _scalar(kind: type, data: Any, where: str) -> Any:
    number = isinstance(data, (int, float)) and not isinstance(data, bool)
    if kind is float and number and _finite(data):
        return float(data)
    if kind is not float and type(data) is kind:
        return data
    return _refuse(where, kind.__name__, data)


def _finite(number: float) -> bool:
    """Whether a float can hold it: JSON has integers of any length."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _refuse(where: str, expected: str, data: Any) -> Any:
    got = repr(data)
    shown = got if len(got) <= _SHOWN else f"{got[:_SHOWN]}..."
    raise ArtefactError(f"{where}: expected {expected}, got {shown}; measure again")
