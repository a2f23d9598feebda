"""From timed calls to the rows of a latency report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from allfocus.benchmarks.calls import Call, Frame
from allfocus.benchmarks.common import stats
from allfocus.benchmarks.contenders import Contender
from allfocus.benchmarks.schema import Beside, DeviceRates, Memory, Row, Stats
from allfocus.runtime.spec import Size

NO_RATES = DeviceRates(matrix=(), copy=(), missing={})


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A contender's calls, one a round, the picture of the last of them, and its memory.

    `beside`: milliseconds of its calls on frames of another size, one a round. `gpu_ms`: in which a
    GPU was at work in a call. Each is None where it was not measured.
    """

    contender: Contender
    calls: Sequence[Call]
    picture: Frame
    memory: Memory
    beside: Sequence[float] | None = None
    gpu_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all rows have in common: sizes, and the devices' limits."""

    size: Size
    beside: Size | None = None
    rates: DeviceRates = NO_RATES


def make_rows(measured: Sequence[Measured], setting: Setting) -> tuple[Row, ...]:
    """One row each, compared with eager PyTorch on the same device."""
    return tuple(_row(one, _baseline(one, measured), setting) for one in measured)


def _baseline(one: Measured, measured: Sequence[Measured]) -> Measured | None:
    if one.contender.role not in ("runtime", "pytorch"):
        return None
    others = (m for m in measured if m.contender.role == "baseline")
    return next((m for m in others if m.contender.device == one.contender.device), None)


def _row(one: Measured, baseline: Measured | None, setting: Setting) -> Row:
    totals = [call.total for call in one.calls]
    total = stats(totals)
    pre, infer, post = (
        stats([getattr(call, stage) for call in one.calls]) for stage in ("pre", "infer", "post")
    )
    size = setting.size
    matrix_share, copy_share = _shares(one.contender, infer.median, setting)
    return Row(
        name=one.contender.label,
        role=one.contender.role,
        device=one.contender.device,
        precision=one.contender.precision,
        pre_ms=pre,
        infer_ms=infer,
        post_ms=post,
        total_ms=total,
        samples_ms=tuple(totals),
        frames_per_second=1e3 / total.median,
        megapixels_per_second=size.width * size.height / 1e3 / total.median,
        pre_post_share=(pre.median + post.median) / total.median,
        memory=one.memory,
        speedup=None if baseline is None else speedup(one.calls, baseline.calls),
        max_difference=None if baseline is None else _difference(one, baseline),
        matrix_share=matrix_share,
        copy_share=copy_share,
        gpu_ms=one.gpu_ms,
        host_overhead=None if one.gpu_ms is None else 1 - one.gpu_ms / total.median,
        beside=_beside(one, totals, setting),
    )


def _shares(
    contender: Contender, milliseconds: float, setting: Setting
) -> tuple[float | None, float | None]:
    """Of the matrix rate and of the copying rate of the contender's device."""
    device, precision = contender.device, contender.precision
    matrix = (r for r in setting.rates.matrix if (r.device, r.precision) == (device, precision))
    copy = next((r for r in setting.rates.copy if r.device == device), None)
    if contender.role == "classical" or copy is None:
        return None, None
    from allfocus.benchmarks.rates import work  # it needs torch

    needed = work(contender.spec, setting.size, precision)
    return (
        needed.matrix_share(milliseconds, next(matrix, None)),
        needed.copy_share(milliseconds, copy),
    )


def _beside(one: Measured, totals: Sequence[float], setting: Setting) -> Beside | None:
    if one.beside is None or setting.beside is None:
        return None
    here, there = (s.width * s.height for s in (setting.size, setting.beside))
    ratios = [(b / there) / (t / here) for b, t in zip(one.beside, totals, strict=True)]
    return Beside(
        size=str(setting.beside), total_ms=stats(list(one.beside)), per_pixel=stats(ratios)
    )


def speedup(calls: Sequence[Call], baseline: Sequence[Call]) -> Stats:
    """How many times faster than the baseline: the ratio in each round, then its statistics.

    What slows the machine for a while slows both calls of a round, and falls out of their ratio.
    """
    return stats([other.total / one.total for one, other in zip(calls, baseline, strict=True)])


def _difference(one: Measured, baseline: Measured) -> int | None:
    """Largest difference in levels of 255; None where the two have different weights."""
    if one.contender.spec.weights_sha256 != baseline.contender.spec.weights_sha256:
        return None
    return int(np.abs(one.picture.astype(np.int16) - baseline.picture).max())
