"""`allfocus bench latency`: its statistics, its rounds, its errors, and one small real run."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import SPEC

from allfocus.benchmarks import kernel_clock, latency
from allfocus.benchmarks.calls import Call, Frame
from allfocus.benchmarks.common import MAX_ROUNDS, MIN_ROUNDS, rounds, stats
from allfocus.benchmarks.contenders import Contender
from allfocus.benchmarks.latency_text import render
from allfocus.benchmarks.memory import gpu_used, peak_rss
from allfocus.benchmarks.rows import Measured, Setting, make_rows, speedup
from allfocus.benchmarks.schema import (
    CopyRate,
    DeviceRates,
    LatencyReport,
    MatrixRate,
    Memory,
    decode,
)
from allfocus.runtime.spec import Size

TINY = ["--model", "didanet-tiny", "--size", "62x48"]


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=50))
def test_statistics_lie_in_order_within_the_sample(samples: list[float]) -> None:
    found = stats(samples)
    inside = min(samples), found.p05, found.median, found.p95, max(samples)
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(inside))
    assert 0 <= found.mad <= max(samples) - min(samples)


def test_statistics_of_a_known_sample() -> None:
    found = stats([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found.median, found.mad) == (3.0, 1.0)
    assert (found.p05, found.p95) == pytest.approx((1.2, 80.8))


def test_contenders_take_turns_and_warm_up_is_not_counted() -> None:
    order: list[str] = []

    def call(name: str) -> int:
        order.append(name)
        return len(order)

    samples = rounds(
        {"A": lambda: call("A"), "B": lambda: call("B")}, warmup=2, repeats=3, seconds=0
    )
    assert order == ["A", "B"] * 5
    assert samples == {"A": [5, 7, 9], "B": [6, 8, 10]}


@pytest.mark.parametrize(
    ("call_seconds", "budget", "expected"),
    [
        (1.0, 10.0, 9),  # one round of warm-up and nine that count
        (4.0, 5.0, MIN_ROUNDS),
        (0.0, 60.0, MAX_ROUNDS),
    ],
)
def test_rounds_fit_the_time_there_is(call_seconds: float, budget: float, expected: int) -> None:
    now = 0.0

    def call() -> None:
        nonlocal now
        now += call_seconds

    samples = rounds({"A": call}, warmup=1, repeats=None, seconds=budget, clock=lambda: now)
    assert len(samples["A"]) == expected
    assert now <= max(budget, (MIN_ROUNDS + 1) * call_seconds)


def _calls(totals: Sequence[float]) -> list[Call]:
    return [Call(pre=1.0, infer=total - 3.0, post=2.0, total=total) for total in totals]


def test_what_slows_the_whole_machine_falls_out_of_the_speedup() -> None:
    drift = [1.0, 1.0, 5.0, 2.0]
    gain = speedup(_calls([100 * d for d in drift]), _calls([150 * d for d in drift]))
    assert (gain.median, gain.p05, gain.p95, gain.mad) == pytest.approx((1.5, 1.5, 1.5, 0))


def _measured(
    label: str, total: float, *, baseline: bool = False, gpu: bool = False, sha: str = "0"
) -> Measured:
    def run(frame: Frame) -> tuple[Frame, Call]:
        return frame, _calls([total])[0]

    contender = Contender(
        label=label,
        role="baseline" if baseline else "runtime",
        precision="fp32",
        device="cuda" if gpu else "cpu",
        spec=dataclasses.replace(SPEC, weights_sha256=sha),
        passed_over={},
        run=run,
    )
    return Measured(
        contender=contender,
        calls=_calls([total] * 3),
        picture=np.full((2, 2, 3), 200 if baseline else 203, np.uint8),
        memory=Memory(rss_bytes=1, gpu_bytes=None),
    )


def test_rows_are_compared_with_the_baseline_on_their_own_device() -> None:
    rows = make_rows(
        [
            _measured("cpu", 100.0),
            _measured("gpu", 10.0, gpu=True),
            _measured("eager cpu", 150.0, baseline=True),
            _measured("eager gpu", 40.0, baseline=True, gpu=True),
        ],
        Setting(size=Size(600, 400)),
    )
    gains = [row.speedup and row.speedup.median for row in rows]
    assert gains == [pytest.approx(1.5), pytest.approx(4.0), None, None]
    assert rows[0].frames_per_second == pytest.approx(10)
    assert rows[0].megapixels_per_second == pytest.approx(2.4)
    assert rows[0].pre_post_share == pytest.approx(0.03)
    assert rows[0].max_difference == 3


def test_pictures_of_other_weights_are_not_compared() -> None:
    pair = [_measured("cpu", 1.0), _measured("eager", 1.0, baseline=True, sha="1")]
    row = make_rows(pair, Setting(size=Size(2, 2)))[0]
    assert row.max_difference is None
    assert row.speedup is not None


def test_without_a_baseline_nothing_is_compared() -> None:
    row = make_rows([_measured("cpu", 1.0)], Setting(size=Size(2, 2)))[0]
    assert (row.speedup, row.max_difference) == (None, None)


def test_another_size_is_held_against_the_first_pixel_by_pixel() -> None:
    one = dataclasses.replace(_measured("cpu", 10.0), beside=[40.0, 44.0, 36.0])
    row = make_rows([one], Setting(size=Size(10, 10), beside=Size(20, 20)))[0]
    assert row.beside is not None
    assert row.beside.size == "20x20"
    assert row.beside.per_pixel.median == pytest.approx(1.0)  # four times the pixels and the time
    assert row.beside.per_pixel.p95 == pytest.approx(1.1, abs=0.02)


def test_a_gpus_own_time_tells_what_the_host_adds() -> None:
    one = dataclasses.replace(_measured("gpu", 10.0, gpu=True), gpu_ms=9.6)
    row = make_rows([one], Setting(size=Size(2, 2)))[0]
    assert row.host_overhead == pytest.approx(0.04)
    assert make_rows([_measured("gpu", 1.0)], Setting(size=Size(2, 2)))[0].host_overhead is None


def test_shares_are_of_the_rates_of_the_same_device_and_type() -> None:
    def matrix(device: str, precision: str, rate: float) -> MatrixRate:
        return MatrixRate(device=device, precision=precision, macs_per_second=rate, by="")  # type: ignore[arg-type]

    one = _measured("cpu", 103.0)  # of which infer is 100 ms
    spec = one.contender.spec
    others = (matrix("cuda", "fp32", 1.0), matrix("cpu", "bf16", 1.0))
    rates = DeviceRates(
        matrix=(*others, matrix("cpu", "fp32", spec.macs_per_pixel * 64 * 48 * 20)),
        copy=(CopyRate(device="cpu", bytes_per_second=1e9, by=""),),
        missing={},
    )
    setting = Setting(size=Size(62, 48), rates=rates)  # 64x48 for a net of multiples of 4
    assert make_rows([one], setting)[0].matrix_share == pytest.approx(0.5)
    missing = dataclasses.replace(rates, matrix=others)
    row = make_rows([one], dataclasses.replace(setting, rates=missing))[0]
    assert row.matrix_share is None


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the JSON and the chart of one real run."""
    folder = tmp_path_factory.mktemp("bench")
    files = ["--out", str(folder / "latency.json"), "--chart", str(folder / "latency.png")]
    options = ["--repeats", "3", "--threads", "1", "--backend", "cpu"]
    command = [*TINY, "--weights", "random:3", *options, *files]
    with pytest.MonkeyPatch.context() as patch:  # a small product is measured as a large one is
        patch.setattr(kernel_clock.CpuClock, "matrix", 128)
        patch.setattr(kernel_clock.CpuClock, "copied_bytes", 1 << 20)
        assert latency.main(command) == 0
    return folder


@pytest.fixture(scope="module")
def report(written: Path) -> LatencyReport:
    return decode(LatencyReport, (written / "latency.json").read_text(encoding="utf-8"))


def test_a_real_run_measures_runtime_and_baseline(report: LatencyReport) -> None:
    assert (report.model, report.size) == ("didanet-tiny", "62x48")
    assert (report.threads, report.warmup, report.repeats) == (1, 1, 3)
    assert report.skip == "off"
    assert [row.role for row in report.rows] == ["runtime", "baseline"]
    for row in report.rows:
        assert len(row.samples_ms) == 3
        assert all(sample > 0 for sample in row.samples_ms)
        parts = row.pre_ms.median + row.infer_ms.median + row.post_ms.median
        assert parts <= row.total_ms.p95 * 1.01


def test_a_real_run_measures_what_the_machine_can_do(report: LatencyReport) -> None:
    assert [(rate.device, rate.precision) for rate in report.rates.matrix] == [("cpu", "fp32")]
    assert all(rate.macs_per_second > 1e6 for rate in report.rates.matrix)
    assert [rate.device for rate in report.rates.copy] == ["cpu"]
    for row in report.rows:
        assert row.matrix_share is not None
        assert row.matrix_share > 0
        assert row.copy_share is not None
        assert row.copy_share > 0
        assert (row.gpu_ms, row.host_overhead) == (None, None)  # of a CPU


def test_both_compute_the_same_picture(report: LatencyReport) -> None:
    difference = report.rows[0].max_difference
    assert difference is not None
    assert difference <= 1  # a tie of rounding at most


def test_the_runtimes_process_needs_less_memory_than_pytorchs(report: LatencyReport) -> None:
    runtime, eager = (row.memory.rss_bytes for row in report.rows)
    assert 30e6 < runtime < eager < 4e9


def test_the_report_says_what_was_not_measured_and_quotes_no_paper(report: LatencyReport) -> None:
    assert report.paper is None  # the test net has none
    text = render(report)
    assert "GTX 1080 Ti" not in text
    for backend, why in report.skipped.items():
        assert f"not measured: {backend}" in text
        assert why


def test_the_chart_is_a_picture_of_1600_pixels_with_something_on_it(written: Path) -> None:
    image = cv2.imread(str(written / "latency.png"))
    assert image is not None
    assert image.shape[1] == 1600
    assert image.std() > 10


def test_no_temporary_files_stay(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == ["latency.json", "latency.png"]


def test_the_chart_names_the_papers_hardware_and_every_value(report: LatencyReport) -> None:
    from allfocus.benchmarks.chart import make_figure
    from allfocus.benchmarks.common import QUOTED

    figure = make_figure(dataclasses.replace(report, paper=QUOTED["didanet"]))
    texts = [t.get_text() for axes in figure.axes for t in axes.texts]
    assert "270 ms on a GTX 1080 Ti, quoted from the paper" in texts
    assert sum("ms" in text for text in texts) == len(report.rows) + 1
    assert any("as fast as eager" in text for text in texts)
    assert "milliseconds" in figure.axes[0].get_xlabel()


def test_json_alone_goes_to_stdout(
    report: LatencyReport, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "measure", lambda _: report)
    assert latency.main([*TINY, "--json"]) == 0
    assert decode(LatencyReport, capsys.readouterr().out) == report


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--model", "didanett"], 2, "did you mean 'didanet'"),
        (["--artefact", "a.onnx", "--weights", "random:0"], 2, "leave out --weights"),
        (["--artefact", "a.onnx"], 1, "a.onnx: no such ONNX file"),
        (["--model", "didanet-tiny"], 1, "allfocus export --model didanet-tiny"),
        (["--backend", "gpu"], 2, "unknown backend 'gpu'"),
        (["--chart", "result.jpg"], 2, "ends in .png"),
        (["--backend", "openvino", "--artefact", "a.engine"], 1, "a.engine"),
        ([*TINY, "--backend", "all"], 1, "no engine can run didanet-tiny here"),
    ],
)
def test_what_cannot_be_measured_says_why(
    options: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert latency.main(options) == code
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        *(["--seconds", "0"], ["--seconds", "inf"], ["--repeats", "0"]),
        *(["--size", "big"], ["--beside", "4"], ["--skip", "much"]),
    ],
)
def test_numbers_that_mean_nothing_are_wrong_use(options: list[str]) -> None:
    assert latency.main(options) == 2


def test_a_chart_without_matplotlib_is_refused_before_measuring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(latency, "measure", lambda _: pytest.fail("measured for nothing"))
    assert latency.main([*TINY, "--chart", str(tmp_path / "a.png")]) == 1
    assert 'pip install "allfocus[bench]"' in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="the trap is Linux's")
def test_peak_memory_is_not_the_parents() -> None:
    ballast = np.ones(400 << 20, np.uint8)
    code = "from allfocus.benchmarks.memory import peak_rss; print(peak_rss())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < ballast.nbytes < peak_rss()


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for nvidia-smi is a shell script")
@pytest.mark.parametrize(
    ("script", "expected"),
    [("printf '100\\n28\\n'", 128 << 20), ("echo '[N/A]'", None), ("echo 5; exit 9", None)],
)
def test_gpu_memory_is_what_nvidia_smi_says(
    script: str, expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_used() == expected


@pytest.mark.gpu
def test_a_gpu_backend_reports_gpu_memory() -> None:
    from allfocus.runtime.probe import candidate

    found = candidate("cuda")
    if not found.usable:
        pytest.skip(found.reason)
    report = latency.measure(
        latency.Plan(
            model="didanet-tiny", size=Size(64, 48), backend="cuda", weights="random:0", repeats=3
        )
    )
    assert report.rows[0].memory.gpu_bytes is not None
    assert report.machine.gpus
