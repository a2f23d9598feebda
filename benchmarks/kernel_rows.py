"""One case of `bench kernels`: every contender checked, then timed in turns, as rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

from allfocus.benchmarks.common import rounds, stats
from allfocus.benchmarks.kernel_cases import Case, Function, check, contenders, exact
from allfocus.benchmarks.kernel_clock import Clock
from allfocus.benchmarks.kernel_schema import KernelRow, Rates, Work
from allfocus.benchmarks.kernel_work import work
from allfocus.runtime.errors import AllfocusError


def make_rows(
    case: Case,
    clock: Clock,
    rates: Rates,
    *,
    compiled: bool,
    warmup: int,
    repeats: int | None,
    seconds: float,
) -> tuple[list[KernelRow], dict[str, str]]:
    """A row for each contender; and why one was left out."""
    found = contenders(case.op, kernel=clock.kind == "cuda", compiled=compiled)
    errors, skipped = _errors(case, found)
    calls: dict[str, Callable[[], float]] = {
        name: partial(clock.time, case.prepare(found[name])) for name in errors
    }
    times = rounds(calls, warmup=warmup, repeats=repeats, seconds=seconds)
    needed = work(case.op, case.direction, case.inputs, case.grad, rates)
    rows = [
        _row(
            case,
            name,
            times=times[name],
            reference=times["reference"],
            needed=needed,
            error=error,
            extra_bytes=clock.extra_bytes(case.prepare(found[name])),
        )
        for name, error in errors.items()
    ]
    return rows, skipped


def _row(
    case: Case,
    name: str,
    *,
    times: Sequence[float],
    reference: Sequence[float],
    needed: Work,
    error: float,
    extra_bytes: int | None,
) -> KernelRow:
    took = stats(times)
    gains = [other / own for other, own in zip(reference, times, strict=True)]
    return KernelRow(
        op=case.op,
        direction=case.direction,
        precision=case.precision,
        contender=name,
        shape=tuple(case.grad.shape),
        time_ms=took,
        samples_ms=tuple(times),
        work=needed,
        roofline_share=needed.limit_ms / took.median,
        speedup=None if name == "reference" else stats(gains),
        extra_bytes=extra_bytes,
        error=error,
    )


def _errors(case: Case, found: dict[str, Function]) -> tuple[dict[str, float], dict[str, str]]:
    """Each contender's error; those that cannot be compiled here are left out, and said."""
    truth = exact(case)
    errors, skipped = {}, {}
    for name, function in found.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"\s*Dynamo detected a call to a")
                errors[name] = check(case, function, truth, name)
        except AllfocusError:
            raise
        except Exception as error:  # a compiler's: of any kind
            if name != "compiled":
                raise
            reason = str(error).strip().partition("\n")[0]
            skipped[f"compiled {case.op} {case.direction} {case.precision}"] = reason
    return errors, skipped
