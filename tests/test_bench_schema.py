"""The benchmarks' JSON: what is written is read back, and what does not fit is named."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.benchmarks import (
    ablation,
    deadline,
    discs,
    front,
    ratios,
    stream,
    tiles,
    trade,
    trust,
)
from allfocus.benchmarks.compare_views import parse
from allfocus.benchmarks.kernel_schema import KERNELS, KernelReport
from allfocus.benchmarks.machine import describe
from allfocus.benchmarks.quality_schema import QUALITY, QualityReport
from allfocus.benchmarks.schema import (
    FLOPS,
    LATENCY,
    Clocks,
    DeviceRates,
    FlopsReport,
    LatencyReport,
    Machine,
    Memory,
    Quoted,
    Row,
    Stats,
    decode,
    encode,
)
from allfocus.runtime.errors import ArtefactError

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
REPORTS: dict[str, Any] = {
    deadline.DEADLINE: deadline.Report,
    discs.DISCS: discs.Report,
    KERNELS: KernelReport,
    FLOPS: FlopsReport,
    LATENCY: LatencyReport,
    QUALITY: QualityReport,
    ratios.RATIOS: ratios.Report,
    stream.STREAM: stream.Report,
    tiles.TILES: tiles.Report,
    trust.TRUST: trust.Report,
}
COMPARED = {"allfocus/latency/1", "allfocus/tiles/1", trade.TRADE}
WITHOUT = {None, ablation.ABLATION, front.FRONT}  # written without dataclasses of their own
MACHINE = describe()
STATS = Stats(median=2.0, p05=1.0, p95=4.0, mad=0.5)


def make_report(machine: Machine = MACHINE) -> LatencyReport:
    row = Row(
        name="ONNX Runtime, CPU, fp32",
        role="runtime",
        device="cpu",
        precision="fp32",
        pre_ms=STATS,
        infer_ms=STATS,
        post_ms=STATS,
        total_ms=STATS,
        samples_ms=(1.0, 2.0, 4.0),
        frames_per_second=500.0,
        megapixels_per_second=120.0,
        pre_post_share=0.01,
        memory=Memory(rss_bytes=1 << 28, gpu_bytes=None),
        speedup=STATS,
        max_difference=1,
        matrix_share=0.5,
        copy_share=None,
        gpu_ms=None,
        host_overhead=None,
        beside=None,
    )
    return LatencyReport(
        schema=LATENCY,
        machine=machine,
        model="didanet",
        weights="random",
        size="600x400",
        skip="off",
        precision="fp32",
        threads=2,
        warmup=1,
        repeats=3,
        clocks_before=Clocks(cpu_mhz=(2000, 2100), gpus=()),
        clocks_after=Clocks(cpu_mhz=(), gpus=()),
        rates=DeviceRates(matrix=(), copy=(), missing={"cpu": "not asked for"}),
        rows=(row, dataclasses.replace(row, role="baseline", speedup=None, max_difference=None)),
        skipped={"cuda": "no GPU"},
        paper=None,
        notes=("a note",),
    )


def test_a_report_goes_out_and_comes_back() -> None:
    report = make_report()
    assert decode(LatencyReport, encode(report)) == report


@given(
    st.builds(
        Quoted,
        source=st.text(),
        size=st.text(),
        seconds=st.floats(allow_nan=False, allow_infinity=False),
        hardware=st.text(),
        flops=st.integers(),
        parameters=st.integers(),
        note=st.text(),
    )
)
def test_any_text_and_number_survives(paper: Quoted) -> None:
    report = dataclasses.replace(make_report(), paper=paper)
    assert decode(LatencyReport, encode(report)) == report


def _set(path: str, value: Any) -> Callable[[Any], None]:
    *parents, last = path.split(".")

    def change(data: Any) -> None:
        for key in parents:
            data = data[int(key) if key.isdecimal() else key]
        data[last] = value

    return change


def _without(key: str) -> Callable[[Any], None]:
    return lambda data: data.pop(key)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (_without("rows"), r"LatencyReport: missing keys \['rows'\]"),
        (_set("extra", 1), r"unknown keys \['extra'\]"),
        (_set("schema", "allfocus/latency/1"), r"LatencyReport.schema: expected one of"),
        (_set("rows", {}), r"LatencyReport.rows: expected a list, got \{\}"),
        (
            _set("rows.1.total_ms.median", "2"),
            r"rows\[1\].total_ms.median: expected float, got '2'",
        ),
        (_set("rows.0.samples_ms", [1.0, None]), r"rows\[0\].samples_ms\[1\]: expected float"),
        (_set("rows.0.memory", None), r"rows\[0\].memory: expected an object, got None"),
        (_set("rows.0.role", "winner"), r"rows\[0\].role: expected one of"),
        (_set("threads", True), r"LatencyReport.threads: expected int, got True"),
        (_set("threads", 2.0), r"LatencyReport.threads: expected int, got 2.0"),
        (_set("skipped", ["cuda"]), r"LatencyReport.skipped: expected an object"),
        (_set("skipped", {"cuda": 1}), r"LatencyReport.skipped.cuda: expected str, got 1"),
        (_set("machine.load_end", "low"), r"machine.load_end: expected float, got 'low'"),
        (_set("machine.load_end", 10**400), r"machine.load_end: expected float, got 10{79}\.\.\.;"),
        (_set("rows.0.speedup.p05", 2.1), r"rows\[0\].speedup: expected p05 <= median <= p95"),
        (_set("rows.0.total_ms.p95", 1.9), r"rows\[0\].total_ms: expected p05 <= median <= p95"),
        (_set("rows.0.infer_ms.mad", -0.5), r"rows\[0\].infer_ms: expected .* and mad >= 0, got"),
        (_set("rows.0.pre_ms.p05", -1), r"rows\[0\].pre_ms: expected milliseconds of 0 or more"),
        (_set("rows.0.samples_ms", [1.0, -1]), r"rows\[0\].samples_ms: expected milliseconds of"),
        (_set("rows.0.gpu_ms", -0.1), r"rows\[0\].gpu_ms: expected milliseconds of 0 or more"),
    ],
)
def test_what_does_not_fit_is_named(damage: Callable[[Any], None], text: str) -> None:
    data = json.loads(encode(make_report()))
    damage(data)
    with pytest.raises(ArtefactError, match=text):
        decode(LatencyReport, json.dumps(data))


@pytest.mark.parametrize("ensemble", ["maps", None, [], 1.0])
def test_a_number_or_a_word_is_one_of_both(ensemble: Any) -> None:
    kept = (RESULTS / "quality-map-of-two-epyc-2core.json").read_text(encoding="utf-8")
    schema = json.loads(kept)["schema"]
    assert decode(REPORTS[schema], kept).ensemble == "map"
    damaged = json.dumps(json.loads(kept) | {"ensemble": ensemble})
    with pytest.raises(ArtefactError, match="ensemble: expected int, got"):
        decode(REPORTS[schema], damaged)


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*.json")), ids=lambda file: file.stem)
def test_results_that_are_kept_are_read(file: Path) -> None:
    """Whole where a dataclass of today has all of it, else as far as it is compared."""
    text = file.read_text(encoding="utf-8")
    schema = json.loads(text).get("schema")
    if schema in REPORTS:
        assert decode(REPORTS[schema], text).schema == schema
    elif schema in COMPARED:
        assert parse(text).schema == schema
    else:
        assert schema in WITHOUT


@dataclasses.dataclass(frozen=True)
class Part:
    model: str
    rows: tuple[Named, ...]


@dataclasses.dataclass(frozen=True)
class Named:
    name: str


def test_a_part_is_read_without_the_rest_and_still_checked() -> None:
    report = make_report()
    names = tuple(Named(row.name) for row in report.rows)
    assert decode(Part, encode(report), part=True) == Part("didanet", names)
    with pytest.raises(ArtefactError, match="unknown keys"):
        decode(Part, encode(report))
    data = json.loads(encode(report))
    del data["rows"][1]["name"]
    with pytest.raises(ArtefactError, match=r"Part.rows\[1\]: missing keys \['name'\]; "):
        decode(Part, json.dumps(data), part=True)


@pytest.mark.parametrize(
    "text", [encode(make_report())[:-20], "[" * 100_000, '{"threads": ' + "1" * 5000 + "}"]
)
def test_text_that_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(ArtefactError, match="LatencyReport: not JSON"):
        decode(LatencyReport, text)


def test_nan_is_neither_written_nor_read() -> None:
    report = make_report()
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode(make_report(dataclasses.replace(MACHINE, load_end=float("nan"))))
    text = encode(report).replace('"pre_post_share": 0.01', '"pre_post_share": NaN')
    with pytest.raises(ArtefactError, match="pre_post_share: expected float, got nan"):
        decode(LatencyReport, text)
