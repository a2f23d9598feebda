"""`allfocus bench kernels`: the roofline's arithmetic, what it refuses, and a small real run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from allfocus.benchmarks import kernel_cases, kernel_rows, kernel_speed
from allfocus.benchmarks.kernel_clock import CpuClock, GpuClock, measure_rates
from allfocus.benchmarks.kernel_schema import KernelReport, Rates
from allfocus.benchmarks.kernel_work import convolution_operations, kernel_operations, work
from allfocus.benchmarks.schema import decode, encode
from allfocus.kernels.taps import taps
from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.spec import Size

QUICK = ["--size", "24x16", "--device", "cpu", "--no-compile", "--repeats", "3"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rates of a test mean nothing: measure them on little."""
    for clock in (CpuClock, GpuClock):
        monkeypatch.setattr(clock, "copied_bytes", 1 << 20)
        monkeypatch.setattr(clock, "matrix", 64)


def rates(bandwidth: float, fma: float) -> Rates:
    return Rates(
        bytes_per_second=bandwidth, fma_per_second=fma, bandwidth_by="a test", fma_by="a test"
    )


def test_operations_of_two_levels_by_hand() -> None:
    # Level 2: the centre and the ring at distance 1 inside, the corners outside. 2 seeds scaled
    # and compared: 4. Inside: 2 x (difference, exponential, sum). Outside: exponential, its sum,
    # the division. 3 rings are mixed.
    assert kernel_operations(2) == 4 + 2 * 3 + 3 + 3


def test_operations_are_those_of_the_taps() -> None:
    assert convolution_operations(8, 1) == sum(len(ring.offsets) for ring in taps(8)) == 225
    assert convolution_operations(8, 3) == 675
    expected = 0
    for level in range(2, 9):
        squares = [x * x + y * y for x in range(level) for y in range(x + 1)]
        inside = [square for square in squares if square <= (level - 1) ** 2]
        between = [square for square in inside if math.isqrt(square) ** 2 != square]
        expected += 2 * level + 2 * len(between) + 3 * len(inside) + 3 + len(squares)
    assert kernel_operations(8) == expected == 549


@pytest.mark.parametrize(("direction", "times"), [("forward", 1), ("backward", 2)])
def test_bytes_are_inputs_once_and_results_once(direction: Any, times: int) -> None:
    case = kernel_cases.make_case("isotropic_conv", direction, "fp16", Size(5, 4), CPU)
    found = work("isotropic_conv", direction, case.inputs, case.grad, rates(1e3, 1e12))
    assert found.bytes == 2 * 5 * 4 * ((3 + 35 + 8) * times + 3)
    assert (found.bound, found.limit_ms) == ("bandwidth", pytest.approx(found.bytes))


def test_the_slower_of_the_two_is_the_limit() -> None:
    case = kernel_cases.make_case("isotropic_conv", "forward", "fp32", Size(5, 4), CPU)
    found = work("isotropic_conv", "forward", case.inputs, case.grad, rates(1e12, 1e3))
    assert found.operations == 5 * 4 * (kernel_operations(8) + 675)
    assert (found.bound, found.limit_ms) == ("arithmetic", pytest.approx(found.operations))


def test_sft_operations() -> None:
    case = kernel_cases.make_case("sft_modulate", "forward", "fp32", Size(5, 4), CPU)
    found = work("sft_modulate", "forward", case.inputs, case.grad, rates(1.0, 1.0))
    assert found.operations == 5 * 4 * 128 * 2
    assert found.bytes == 4 * (3 * 5 * 4 * 128 + 128 + 5 * 4)


def test_rates_are_of_this_run() -> None:
    found = measure_rates(CpuClock("a CPU"), repeats=3)
    assert 1e6 < found.bytes_per_second < 1e14
    assert 1e5 < found.fma_per_second < 1e15
    assert found.bandwidth_by == "torch copy_ of 1 MiB, read and written"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> KernelReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CpuClock, "copied_bytes", 1 << 20)
        patch.setattr(CpuClock, "matrix", 64)
        file = tmp_path_factory.mktemp("bench") / "kernels.json"
        assert kernel_speed.main([*QUICK, "--out", str(file)]) == 0
        return decode(KernelReport, file.read_text(encoding="utf-8"))


def test_a_real_run_on_a_cpu_times_what_pytorch_has(report: KernelReport) -> None:
    found = [(row.op, row.direction, row.precision, row.contender) for row in report.rows]
    assert len(found) == len(set(found)) == 2 * 2 * (1 + 2)
    assert {row.contender for row in report.rows} == {"reference", "eager"}
    for row in report.rows:
        assert row.time_ms.median > 0
        assert len(row.samples_ms) == 3
        assert row.roofline_share == pytest.approx(row.work.limit_ms / row.time_ms.median)
        assert (row.speedup is None) == (row.contender == "reference")
        assert row.extra_bytes is None
        assert row.error <= (1e-5 if row.precision == "fp32" else 4 * 2**-10)
        assert row.shape == (1, 3 if row.op == "isotropic_conv" else 128, 16, 24)


def test_without_a_gpu_the_result_says_so(report: KernelReport) -> None:
    assert report.device == "cpu"
    assert report.skipped["kernel"] == "no GPU"
    text = kernel_speed.render(report)
    assert "the CUDA kernels were not run" in " ".join(text.split())
    assert "not measured: kernel: no GPU" in text
    assert "isotropic_conv  backward   fp16  reference" in text


def test_the_report_goes_out_and_comes_back(report: KernelReport) -> None:
    text = encode(report)
    assert decode(KernelReport, text) == report
    damaged = text.replace('"contender": "eager"', '"contender": 1', 1)
    with pytest.raises(ArtefactError, match=r"rows\[\d+\].contender: expected str, got 1"):
        decode(KernelReport, damaged)


@pytest.mark.parametrize("wrong", [lambda out: out + 1e-3, lambda out: out * float("nan")])
def test_what_computes_something_else_is_not_timed(
    wrong: Callable[[Tensor], Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    right = kernel_cases._sft_by_hand
    monkeypatch.setattr(kernel_cases, "_sft_by_hand", lambda *inputs: wrong(right(*inputs)))
    monkeypatch.setattr(kernel_rows, "rounds", lambda *_, **__: pytest.fail("timed"))
    options = [*QUICK, "--op", "sft_modulate", "--direction", "forward", "--precision", "fp32"]
    assert kernel_speed.main(options) == 1
    assert "eager differs from float64 by" in capsys.readouterr().err


def test_what_cannot_be_compiled_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(function: object, **_: object) -> Callable[..., Tensor]:  # noqa: ARG001
        def call(*_: Tensor) -> Tensor:
            raise RuntimeError("no C++ compiler\nwas found")

        return call

    monkeypatch.setattr(torch, "compile", compile)
    plan = kernel_speed.Plan(
        size=Size(8, 6),
        ops=("sft_modulate",),
        directions=("forward",),
        precisions=("fp32",),
        device="cpu",
        repeats=3,
    )
    found = kernel_speed.measure(plan)
    assert [row.contender for row in found.rows] == ["reference", "eager"]
    assert found.skipped["compiled sft_modulate forward fp32"] == "no C++ compiler"


def test_asking_for_a_gpu_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert kernel_speed.main(["--device", "cuda"]) == 1
    assert "measure with --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--op", "blur"], ["--precision", "int8"], ["--repeats", "0"], ["--size", "7"]]
)
def test_wrong_use(options: list[str]) -> None:
    assert kernel_speed.main(options) == 2


def test_a_gpu_is_flushed_before_the_first_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for CUDA: what is done in which order, and what counts as memory."""
    order: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            order.append("event")

        def synchronize(self) -> None:
            order.append("wait")

        def elapsed_time(self, _: Event) -> float:
            return 1.5

    stand_ins = {
        "get_device_name": lambda _: "a GPU",
        "get_device_properties": lambda _: SimpleNamespace(L2_cache_size=1 << 10),
        "synchronize": lambda _: order.append("synchronize"),
        "Event": Event,
        "memory_allocated": lambda _: 1000,
        "reset_peak_memory_stats": lambda _: order.append("reset"),
        "max_memory_allocated": lambda _: 1500,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr("allfocus.benchmarks.kernel_clock._LEAST_FLUSHED", 16)
    monkeypatch.setattr(Tensor, "zero_", lambda _: order.append("flush"))
    clock = GpuClock(CPU)
    result = torch.ones(10)

    def prepare() -> Callable[[], tuple[Tensor]]:
        order.append("prepare")
        return lambda: (order.append("call"), (result,))[1]  # type: ignore[func-returns-value]

    assert clock.time(prepare) == 1.5
    flushes = ["flush"] * order.count("flush")
    assert flushes
    assert order == ["prepare", "synchronize", *flushes, "event", "call", "event", "wait"]
    assert clock.extra_bytes(prepare) == 1500 - 1000 - result.nbytes
    assert order[-3:] == ["reset", "prepare", "call"]


@pytest.mark.gpu
def test_on_a_gpu_the_kernels_are_timed(tmp_path: Path) -> None:
    from allfocus.kernels import library

    if not torch.cuda.is_available() or not library.BUILT.is_file():
        pytest.skip("needs a GPU that torch can use, and the built library")
    file = tmp_path / "kernels.json"
    options = ["--device", "cuda", "--size", "120x80", "--no-compile", "--repeats", "3"]
    assert kernel_speed.main([*options, "--out", str(file)]) == 0
    found = decode(KernelReport, file.read_text(encoding="utf-8"))
    kernels = [row for row in found.rows if row.contender == "kernel"]
    assert len(kernels) == 8
    assert all(row.extra_bytes is not None and row.speedup is not None for row in kernels)
    assert found.device == "cuda"
