"""The JSON of `allfocus bench kernels`: its dataclasses are the schema, see schema.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from allfocus.benchmarks.schema import Machine, Stats

KERNELS: Literal["allfocus/kernels/1"] = "allfocus/kernels/1"
Op = Literal["isotropic_conv", "sft_modulate"]
Direction = Literal["forward", "backward"]
Kind = Literal["fp32", "fp16", "bf16"]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the device reached in this run, and how it was measured."""

    bytes_per_second: float  # copying: bytes read and bytes written both count
    fma_per_second: float  # float32 multiply-adds
    bandwidth_by: str
    fma_by: str


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an operation must at least move and compute, and how long that takes by Rates."""

    bytes: int  # each input read once, each result written once
    operations: int  # float32 instructions; a multiply-add is one
    limit_ms: float  # the larger of bytes / bandwidth and operations / FMA rate
    bound: Literal["bandwidth", "arithmetic"]


@dataclass(frozen=True, kw_only=True)
class KernelRow:
    """One way to compute one operation, in one direction and precision."""

    op: Op
    direction: Direction
    precision: Kind
    contender: str  # "kernel", "reference", "compiled" or "eager"
    shape: tuple[int, ...]  # [N, C, H, W] of the result
    time_ms: Stats
    samples_ms: tuple[float, ...]
    work: Work
    roofline_share: float  # limit_ms / median time: 1 is the machine's limit
    speedup: Stats | None  # time of the reference / this one's, round by round; null for itself
    extra_bytes: int | None  # peak beside inputs and results; null on a CPU
    error: float  # largest difference from float64 / largest value, over all results


@dataclass(frozen=True, kw_only=True)
class KernelReport:
    """What `allfocus bench kernels` writes."""

    schema: Literal["allfocus/kernels/1"]
    machine: Machine
    device: Literal["cpu", "cuda"]
    device_name: str
    size: str
    threads: int  # CPU threads of PyTorch
    warmup: int  # rounds not counted
    rates: Rates
    rows: tuple[KernelRow, ...]
    skipped: dict[str, str]  # contender -> why it was not measured
    notes: tuple[str, ...]
