"""`bench latency --backend all`: its contenders, what is left out and why, and the marks."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import SPEC
from test_bench_schema import make_report

from allfocus.benchmarks import contenders, gpu_time, plan, pytorch, rates, turns
from allfocus.benchmarks.calls import Call, Frame
from allfocus.benchmarks.contenders import Contender, Recipe
from allfocus.benchmarks.latency_text import render
from allfocus.benchmarks.marks import marks
from allfocus.benchmarks.plan import Plan
from allfocus.benchmarks.schema import Beside, LatencyReport, Memory, Row, Stats
from allfocus.runtime import load as loading
from allfocus.runtime.errors import BackendError, UsageError
from allfocus.runtime.spec import Size

SMALL = Size(62, 48)
RUNTIMES = [
    *("TensorRT", "TensorRT for RTX", "ONNX Runtime, CUDA"),
    *("ONNX Runtime, CPU, fp32", "ONNX Runtime, CPU, int8"),
    *("OpenVINO, CPU, fp32", "OpenVINO, CPU, bf16", "OpenVINO, CPU, int8"),
]
PYTORCH_CPU = [
    "PyTorch eager, CPU, fp32",
    "PyTorch channels-last, CPU, fp32",
    "PyTorch compiled, CPU, fp32",
    "PyTorch autocast channels-last, CPU, bf16",
]


def contender(recipe: Recipe, **changed: Any) -> Contender:
    def run(frame: Frame) -> tuple[Frame, Call]:
        return frame, Call(1.0, 2.0, 3.0, 6.0)

    made = Contender(
        label=recipe.label,
        role="runtime",
        precision="fp32",
        device="cpu",
        spec=SPEC,
        passed_over={},
        run=run,
    )
    return dataclasses.replace(made, **changed)


def stand_in(monkeypatch: pytest.MonkeyPatch, absent: Iterable[str] = ()) -> list[Recipe]:
    """Contenders that do nothing; those called as in `absent` cannot be opened."""
    asked = []

    @contextmanager
    def opened(recipe: Recipe) -> Iterator[Contender]:
        asked.append(recipe)
        if recipe.label in absent:
            raise BackendError(f"there is no {recipe.label}")
        yield contender(recipe)

    monkeypatch.setattr(plan, "opened", opened)
    return asked


def test_all_are_asked_for_and_those_that_are_not_there_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = stand_in(monkeypatch, RUNTIMES[:3])
    made = Plan(model="didanet-tiny", size=SMALL, backend="all", threads=2)
    with ExitStack() as stack:
        field, skipped = plan.open_runtimes(made, "didanet-tiny", stack)
        more, why = plan.open_pytorch(made, field.values(), stack)
    assert sorted(recipe.label for recipe in asked) == sorted(RUNTIMES + [r.label for r in more])
    assert sorted(recipe.label for recipe in field) == sorted(RUNTIMES[3:])
    assert skipped == {label: f"there is no {label}" for label in RUNTIMES[:3]}
    assert [r.label for r in more if r.backend == "cpu"] == PYTORCH_CPU
    on_gpu = [r.label for r in more if r.backend == "cuda"] + list(why)
    assert on_gpu == [
        *(label.replace("CPU", "CUDA") for label in PYTORCH_CPU),
        "PyTorch half channels-last, CUDA, fp16",
    ]
    assert {(recipe.skip, recipe.threads) for recipe in asked} == {("off", 2)}


def test_one_backend_has_eager_pytorch_beside_it_and_must_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in(monkeypatch, ["OpenVINO, CPU"])
    made = Plan(model="didanet-tiny", size=SMALL, backend="cpu")
    with ExitStack() as stack:
        field, skipped = plan.open_runtimes(made, "didanet-tiny", stack)
        more, _ = plan.open_pytorch(made, field.values(), stack)
    assert [recipe.label for recipe in (*field, *more)] == ["ONNX Runtime, CPU", PYTORCH_CPU[0]]
    assert not skipped
    other = dataclasses.replace(made, backend="openvino")
    with ExitStack() as stack, pytest.raises(BackendError, match="there is no OpenVINO"):
        plan.open_runtimes(other, "didanet-tiny", stack)


def test_a_recipe_is_loaded_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def load(model: str, **options: Any) -> None:
        given.update(model=model, **options)
        raise UsageError("enough")

    monkeypatch.setattr(loading, "load", load)
    recipe = Recipe(
        kind="runtime",
        model="didanet-lite",
        backend="openvino",
        precision="int8",
        skip="auto",
        ensemble=2,
        reach=16.0,
        threads=3,
    )
    with pytest.raises(UsageError, match="enough"), contenders.opened(recipe):
        pass
    assert given == {
        "model": "didanet-lite",
        "backend": "openvino",
        "precision": "int8",
        "skip": "auto",
        "ensemble": 2,
        "reach": 16.0,
        "threads": 3,
    }


def test_what_gives_baselines_their_map_is_loaded_as_the_models_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("scipy", reason="classical baselines need SciPy")
    from allfocus.benchmarks import baselines

    given: dict[str, Any] = {}

    def load(model: str, **options: Any) -> None:
        given.update(model=model, **options)
        raise UsageError("enough")

    monkeypatch.setattr(baselines, "load", load)
    asked = stand_in(monkeypatch)
    made = Plan(model="didanet", size=SMALL, classical=("wiener",), threads=2)
    for skip in ("off", "auto", 1.5):
        with ExitStack() as stack:
            plan.open_classical(dataclasses.replace(made, skip=skip), "didanet", stack)
        with pytest.raises(UsageError, match="enough"), contenders.opened(asked[-1]):
            pass
        assert (given["skip"], given["precision"], given["threads"]) == (skip, "auto", 2)
    exact = dataclasses.replace(asked[-1], precision="int8")
    with pytest.raises(UsageError, match="enough"), contenders.opened(exact):
        pass
    assert given["precision"] == "int8"


def test_a_recipe_passes_to_another_process() -> None:
    recipe = Recipe(kind="pytorch", model="m", backend="cpu", way="autocast", threads=1)
    assert Recipe(**json.loads(json.dumps(dataclasses.asdict(recipe)))) == recipe


@pytest.fixture(scope="module")
def frame() -> Frame:
    return turns.photo(SMALL)


@pytest.mark.parametrize(("way", "most"), [("channels-last", 1), ("autocast", 8)])
def test_ways_of_pytorch_compute_the_same_picture(
    way: pytorch.Way, most: int, frame: Frame
) -> None:
    plain, other = (
        pytorch.Runner("didanet-tiny", "random:3", each, "cpu", 1)(frame)[0]
        for each in ("eager", way)
    )
    assert plain.shape == frame.shape
    difference = np.abs(plain.astype(int) - other)
    assert difference.max() <= most
    assert np.abs(plain.astype(int) - frame).max() > 2  # the net does something


def test_pytorch_without_a_compiler_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch, frame: Frame
) -> None:
    def compile_(_: Any, **__: Any) -> Any:
        def fails(_: Any) -> None:
            raise RuntimeError("No working C++ compiler found\nand more lines")

        return fails

    monkeypatch.setattr(pytorch.torch, "compile", compile_)
    runner = pytorch.Runner("didanet-tiny", "random:3", "compiled", "cpu", 1)
    with pytest.raises(BackendError, match=r"^PyTorch compiled, CPU, fp32: No working C"):
        runner(frame)


def fails(_: Frame) -> tuple[Frame, Call]:
    raise BackendError("out of memory")


def test_who_cannot_deblur_is_left_out_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "peak", lambda *_: Memory(rss_bytes=1, gpu_bytes=None))
    monkeypatch.setattr(turns, "_PAUSE", 0)
    good, bad = (
        Recipe(kind="runtime", model="m", backend=backend, threads=1)
        for backend in ("cpu", "openvino")
    )
    field = {good: contender(good), bad: contender(bad, run=fails)}
    made = Plan(model="didanet-tiny", size=SMALL, backend="all", repeats=2, beside=Size(20, 10))
    taken = turns.Turns(made, field)
    assert taken.failed == {"OpenVINO, CPU": "out of memory"}
    taken.take()
    (one,) = taken.measured()
    assert one.contender.label == "ONNX Runtime, CPU"
    assert len(one.calls) == 2
    assert one.beside == [6.0, 6.0]
    with pytest.raises(BackendError, match="out of memory"):
        turns.Turns(dataclasses.replace(made, backend="openvino"), field)
    with pytest.raises(BackendError, match="nothing could deblur"):
        turns.Turns(made, {bad: field[bad]})


def test_another_size_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PAUSE", 0)
    recipe = Recipe(kind="runtime", model="m", backend="tensorrt", threads=1)

    def small_only(given: Frame) -> tuple[Frame, Call]:
        return fails(given) if given.shape[0] > 100 else (given, Call(1, 1, 1, 3))

    field = {recipe: contender(recipe, run=small_only, device="cuda")}
    taken = turns.Turns(Plan(model="didanet-tiny", size=SMALL, backend="all"), field)
    assert taken.beside == turns.BESIDE  # by default on a GPU
    assert taken.failed == {"TensorRT at 1920x1080": "out of memory"}


intervals = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20)).map(lambda p: (p[0], p[0] + p[1]))
)


@given(intervals)
def test_what_runs_at_once_on_a_gpu_counts_once(given: list[tuple[int, int]]) -> None:
    covered = {moment for begin, end in given for moment in range(begin, end)}
    assert gpu_time.busy([(float(a), float(b)) for a, b in given]) == len(covered)


def test_a_gpus_time_is_the_median_of_profiled_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch.torch.cuda, "is_available", lambda: True)
    seen = iter([2000.0, 9000.0, 3000.0, 1000.0, 4000.0])
    monkeypatch.setattr(gpu_time, "_on_gpu", lambda call: call() or [(0.0, next(seen))])
    calls: list[int] = []
    assert gpu_time.measure(lambda: calls.append(1)) == 3.0
    assert len(calls) == 6  # one first, that nothing is prepared under the profiler
    monkeypatch.setattr(gpu_time, "_on_gpu", lambda _: [])
    assert gpu_time.measure(lambda: None) is None  # a profiler that sees nothing is no 0 ms


def test_without_a_gpu_there_is_no_time_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch.torch.cuda, "is_available", lambda: False)
    assert gpu_time.measure(lambda: pytest.fail("called for nothing")) is None


def test_rates_that_cannot_be_measured_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates.CpuClock, "matrix", 64)
    monkeypatch.setattr(rates.CpuClock, "copied_bytes", 1 << 16)
    monkeypatch.setattr(rates.torch.cuda, "is_available", lambda: False)
    wanted: list[rates.Wanted] = [("cuda", "fp16"), ("cpu", "fp8"), ("cpu", "fp32")]
    wanted += [("cpu", "bf16"), ("cpu", "int8")]
    found = rates.measure(wanted, threads=1)
    assert [rate.precision for rate in found.matrix] == ["bf16", "fp32", "int8"]
    assert all(rate.macs_per_second > 0 and "64x64" in rate.by for rate in found.matrix)
    assert [rate.device for rate in found.copy] == ["cpu"]
    assert list(found.missing) == ["cpu fp8", "cuda"]
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "cpu int8" in rates.measure([("cpu", "int8")], threads=1).missing


def test_the_work_of_a_net_is_what_is_counted() -> None:
    from allfocus.train.checkpoint import random

    spec = random("didanet-tiny", 0)[1]
    in_32, in_8 = (rates.work(spec, SMALL, precision) for precision in ("fp32", "int8"))
    assert in_32.macs == in_8.macs == pytest.approx(spec.macs_per_pixel * 64 * 48)
    assert in_32.bytes is not None
    assert in_8.bytes == pytest.approx(in_32.bytes / 4)
    wider = dataclasses.replace(spec, macs_per_pixel=2 * spec.macs_per_pixel)
    assert rates.work(wider, SMALL, "fp32").bytes is None  # the layers are not those of the name


def gpu_report(
    total: float, pixel: float | None, overhead: float | None, precision: Any = "fp16"
) -> LatencyReport:
    def point(value: float) -> Stats:
        return Stats(median=value, p05=value, p95=value, mad=0.0)

    report = make_report()
    row: Row = dataclasses.replace(
        report.rows[0],
        name="TensorRT",
        device="cuda",
        precision=precision,
        total_ms=point(total),
        host_overhead=overhead,
        beside=None
        if pixel is None
        else Beside(size="1920x1080", total_ms=point(1.0), per_pixel=point(pixel)),
    )
    return dataclasses.replace(report, rows=(row,))


@pytest.mark.parametrize(
    ("figures", "verdicts"),
    [
        ((3.9, 1.09, 0.05), ["reached", "reached", "reached"]),
        ((4.1, 1.12, 0.06), ["missed", "missed", "missed"]),
        ((3.0, 0.85, 0.01), ["reached", "missed", "reached"]),
        ((3.0, None, None), ["reached", "not measured", "not measured"]),
    ],
)
def test_marks_of_a_gpu(figures: tuple[float, Any, Any], verdicts: list[str]) -> None:
    lines = marks(gpu_report(*figures))
    assert [line.rpartition(": ")[2] for line in lines] == verdicts
    for line in lines:
        assert line in render(gpu_report(*figures)).replace("\n  ", " ")


def test_marks_without_a_gpu_are_not_measured_and_other_models_have_none() -> None:
    for report in (make_report(), gpu_report(1.0, 1.0, 0.0, precision="fp32")):
        (line,) = marks(report)
        assert line.startswith("not measured: the marks of didanet")
    assert not marks(dataclasses.replace(make_report(), model="didanet-lite"))


@pytest.mark.gpu
def test_a_gpus_time_is_within_the_call() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    big = torch.ones(4096, 4096, device="cuda")
    found = gpu_time.measure(lambda: torch.mm(big, big))
    assert found is not None
    assert 0.01 < found < 1000


def test_events_are_taken_from_the_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def event(device: str, begin: float, end: float) -> Any:
        return SimpleNamespace(
            device_type=SimpleNamespace(name=device),
            time_range=SimpleNamespace(start=begin, end=end),
        )

    events = [event("CPU", 0, 100), event("CUDA", 5, 7)]

    @contextmanager
    def profile(**_: Any) -> Iterator[Any]:
        yield SimpleNamespace(events=lambda: events)

    monkeypatch.setattr(torch.profiler, "profile", profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert gpu_time._on_gpu(lambda: None) == [(5, 7)]
