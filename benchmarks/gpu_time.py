"""How long a GPU is at work during a call, whatever engine uses it, by PyTorch's profiler.

The profiler (CUPTI) sees the kernels and copies of the whole process, also those of TensorRT, of
ONNX Runtime and of a CUDA graph. It slows calls down: so none that is timed runs under it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

Interval = tuple[float, float]  # begin and end; microseconds

_CALLS = 5


def busy(intervals: Iterable[Interval]) -> float:
    """The time covered by at least one of `intervals`: what runs at once counts once."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def measure(call: Callable[[], object]) -> float | None:
    """Milliseconds in which the GPU was at work in a call: the median of some.

    None where PyTorch finds no GPU, or the profiler may not see it.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    call()
    found = [busy(_on_gpu(call)) for _ in range(_CALLS)]
    return median(found) / 1e3 if all(found) else None


def _on_gpu(call: Callable[[], object]) -> list[Interval]:
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    return [
        (event.time_range.start, event.time_range.end)
        for event in seen.events() or []
        if event.device_type.name == "CUDA"
    ]
