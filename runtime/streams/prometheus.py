"""A pipeline's counters in the text format of Prometheus (exposition format 0.0.4).

Names follow its conventions: base units, which stand in the name, and `_total` for what only grows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from allfocus.runtime.streams.counters import Snapshot


@dataclass(frozen=True)
class _Metric:
    name: str
    kind: str
    about: str


_FRAMES = _Metric("allfocus_frames_total", "counter", "Frames written.")
_DROPPED = _Metric(
    "allfocus_dropped_frames_total", "counter", "Frames thrown away, since the line was full."
)
_DAMAGED = _Metric("allfocus_damaged_frames_total", "counter", "Frames that could not be read.")
_LATE = _Metric(
    "allfocus_late_frames_total", "counter", "Frames handed to the sink after their deadline."
)
_UPTIME = _Metric("allfocus_uptime_seconds", "gauge", "Time since the pipeline's start.")
_RATE = _Metric("allfocus_frames_per_second", "gauge", "Frames written, over the last 5 seconds.")
_LATENCY = _Metric(
    "allfocus_latency_seconds",
    "summary",
    "From a frame's arrival to its result written; quantiles of the last 1,000 frames.",
)
_LONGEST = _Metric("allfocus_latency_max_seconds", "gauge", "The longest latency of all frames.")
_SKIPPED = _Metric(
    "allfocus_skipped_ratio", "gauge", "Mean share of a frame that was in focus: passed through."
)
_TRUST = _Metric("allfocus_trust_ratio", "gauge", "Mean trust in the outputs that were checked.")
_STEP = _Metric("allfocus_ladder_step", "gauge", "The ladder's step; 0 is the best one.")
_MEMORY = _Metric("allfocus_resident_memory_bytes", "gauge", "Main memory held by the process.")


def exposition(found: Snapshot) -> str:
    """What GET /metrics answers; what is not known is left out."""
    lines: list[str] = []
    for metric, samples in _metrics(found):
        lines.append(f"# HELP {metric.name} {metric.about}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines += (f"{metric.name}{suffix} {_exactly(value)}" for suffix, value in samples.items())
    return "\n".join(lines) + "\n"


def _metrics(found: Snapshot) -> Iterator[tuple[_Metric, dict[str, int | float]]]:
    """Each metric with its samples, by what stands behind the name: labels, or a suffix."""
    single: dict[_Metric, int | float | None] = {
        _FRAMES: found.frames,
        _DROPPED: found.dropped,
        _DAMAGED: found.damaged,
        _LATE: found.missed,
        _UPTIME: found.seconds,
        _RATE: found.fps,
        _LONGEST: found.max_ms / 1e3,
        _SKIPPED: found.skipped,
        _TRUST: found.trust,
        _STEP: found.step,
        _MEMORY: found.memory_bytes,
    }
    for metric, value in single.items():
        if value is not None:
            yield metric, {"": value}
    yield (
        _LATENCY,
        {
            '{quantile="0.5"}': found.p50_ms / 1e3,
            '{quantile="0.95"}': found.p95_ms / 1e3,
            '{quantile="0.99"}': found.p99_ms / 1e3,
            "_sum": found.mean_ms / 1e3 * found.frames,
            "_count": found.frames,
        },
    )


def _exactly(value: int | float) -> str:
    """All digits: of rounded ones the rate of a counter beyond a million would come out wrong."""
    return str(value) if isinstance(value, int) else repr(float(value))  # NumPy's names its type
