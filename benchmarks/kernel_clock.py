"""Times, memory and rates of a device: by CUDA events on a GPU, by the clock on a CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from allfocus.benchmarks.common import rounds, stats
from allfocus.benchmarks.kernel_schema import Rates
from allfocus.train.tf32 import tf32

Results = Sequence[Tensor]
Prepare = Callable[[], Callable[[], Results]]  # untimed preparation; what it gives back is timed

_MIB = 1 << 20
_LEAST_FLUSHED = 256 * _MIB
_FLUSHES = 8  # they are also the head start of the CPU, which queues the timed work meanwhile


class CpuClock:
    """Milliseconds by the process' clock."""

    kind: Literal["cpu", "cuda"] = "cpu"
    copied_bytes, matrix = 256 * _MIB, 2048

    def __init__(self, name: str) -> None:
        self.device = torch.device("cpu")
        self.name = name

    def time(self, prepare: Prepare) -> float:
        """Milliseconds of one call."""
        call = prepare()
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)

    def extra_bytes(self, prepare: Prepare) -> int | None:  # noqa: ARG002
        """Not known on a CPU."""
        return None


class GpuClock:
    """Milliseconds between two CUDA events; the work finds neither its data in L2 nor a gap.

    Before the first event the GPU overwrites a buffer larger than its L2 cache some times, and the
    CPU does not wait for it: a few launches are queued when their time begins.
    """

    kind: Literal["cpu", "cuda"] = "cuda"
    copied_bytes, matrix = 512 * _MIB, 8192

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.name = torch.cuda.get_device_name(device)
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        size = max(_LEAST_FLUSHED, 4 * cache)
        self._flushed = torch.empty(size, dtype=torch.uint8, device=device)

    def time(self, prepare: Prepare) -> float:
        """Milliseconds of one call, on the device."""
        start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        stop: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        call = prepare()
        torch.cuda.synchronize(self.device)
        for _ in range(_FLUSHES):
            self._flushed.zero_()
        start.record()
        call()
        stop.record()
        stop.synchronize()
        return float(start.elapsed_time(stop))

    def extra_bytes(self, prepare: Prepare) -> int | None:
        """Peak of allocated memory in preparation and call, without what stood and the results."""
        torch.cuda.synchronize(self.device)
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        results = prepare()()
        peak = torch.cuda.max_memory_allocated(self.device)
        return int(peak - before - sum(result.nbytes for result in results))


Clock = CpuClock | GpuClock


def measure_rates(clock: Clock, repeats: int = 10) -> Rates:
    """Copy bandwidth and rate of float32 multiply-adds: the median of some calls each."""
    source = torch.ones(clock.copied_bytes, dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    side = clock.matrix
    a, b = (torch.ones(side, side, device=clock.device) for _ in range(2))
    product = torch.empty_like(a)

    def copy() -> Results:
        return (target.copy_(source),)

    def multiply() -> Results:
        return (torch.mm(a, b, out=product),)

    with tf32(False):
        copying, multiplying = (_milliseconds(clock, f, repeats) for f in (copy, multiply))
    return Rates(
        bytes_per_second=2e3 * source.nbytes / copying,
        fma_per_second=1e3 * side**3 / multiplying,
        bandwidth_by=f"torch copy_ of {source.nbytes // _MIB} MiB, read and written",
        fma_by=f"torch.mm of {side}x{side} float32 matrices without TF32",
    )


def _milliseconds(clock: Clock, function: Callable[[], Results], repeats: int) -> float:
    samples = rounds(
        {"": lambda: clock.time(lambda: function)}, warmup=2, repeats=repeats, seconds=0
    )
    return stats(samples[""]).median
