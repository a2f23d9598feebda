"""`allfocus bench ratios`: what it counts is exact, and what it holds against what."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus import cli
from allfocus.benchmarks import ratios
from allfocus.benchmarks.counting import python_calls, python_memory
from allfocus.benchmarks.ort_sessions import bare, convolutions
from allfocus.benchmarks.schema import decode
from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.load import load
from allfocus.runtime.spec import Size


def nothing() -> None:
    pass


@given(st.integers(0, 50))
def test_calls_are_counted(count: int) -> None:
    def call() -> None:
        for _ in range(count):
            nothing()
            len(())

    assert python_calls(call) - python_calls(nothing) == 2 * count


def test_memory_is_counted_at_its_peak_and_given_back_does_not_hide_it() -> None:
    def call() -> None:
        for _ in range(3):
            np.ones(1 << 20, np.uint8)

    assert 1 << 20 <= python_memory(call) < 1.1 * (1 << 20)
    assert python_memory(nothing) < 1000
    assert not tracemalloc.is_tracing()


def test_memory_is_not_counted_within_another_count() -> None:
    with pytest.raises(RuntimeError, match="tracemalloc is at work already"):
        python_memory(lambda: python_memory(nothing))
    assert not tracemalloc.is_tracing()


def test_an_error_ends_the_counting() -> None:
    def fails() -> None:
        raise ValueError("this one")

    for count in (python_calls, python_memory):
        with pytest.raises(ValueError, match="this one"):
            count(fails)
    assert not tracemalloc.is_tracing()


@pytest.mark.parametrize("wanted", [1.0, 400e6, 1e9])
def test_convolutions_are_about_as_many_operations(wanted: float) -> None:
    plain = convolutions(wanted, 1)
    each = 9 * 64 * 64 * 80 * 56
    assert plain.macs % each == 0
    assert abs(plain.macs - wanted) <= max(each / 2, each - wanted)
    (made,) = plain.run()  # type: ignore[misc]
    assert made.shape == (1, 64, 56, 80)
    assert np.isfinite(made).all()


def test_the_bare_session_computes_what_the_model_does() -> None:
    with load("didanet-lite", backend="cpu", precision="fp32", skip="off") as deblur:
        run = bare(packaged_onnx("didanet-lite"), deblur.graph, Size(32, 16), 1)
        sharp, *_ = run()  # type: ignore[misc]
        picture = np.random.default_rng(0).random((1, 3, 16, 32))
        frame = picture[0].transpose(1, 2, 0).astype(np.float32)
        expected = deblur(frame[..., ::-1]).image[..., ::-1]
    np.testing.assert_allclose(sharp[0].transpose(1, 2, 0), expected, atol=1e-4)


def test_a_run_has_every_ratio_and_compares_with_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ratios.json"
    words = ["bench", "ratios", "--size", "64x48", "--repeats", "3", "--out", str(out)]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    report = decode(ratios.Report, out.read_text(encoding="utf-8"))
    names = {row.name for row in report.rows}
    assert {ratios.CALL, ratios.GRAPH} <= names
    assert (ratios.EIGHT in names) != (ratios.EIGHT in report.skipped)
    for row in report.rows:
        assert len(row.samples) == 3
        assert row.name in said
    once, tiles, memory = report.counts.values()
    assert 50 < once < tiles  # a tile is a call of its own
    assert 1 < memory < 100
    assert cli.main(["bench", "compare", str(out), str(out), "--complete"]) == 0


def test_counts_are_those_of_the_committed_file_whatever_the_load() -> None:
    """They are what CI relies on: the same here, within what versions of Python change."""
    folder = Path(__file__).parent.parent / "benchmarks" / "results"
    (file,) = folder.glob("ratios-*.json")
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["model"] == "didanet-lite"
    size = Size.parse(kept["size"])
    with load("didanet-lite", backend="cpu", precision="fp32", skip="off") as deblur:
        found = ratios.counts("didanet-lite", deblur, size, 2)
    assert found == pytest.approx(kept["counts"], rel=0.25)


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--model", "jdrl-unet"], 2, "expected one that the package carries"),
        (["--model", "didanett"], 2, "invalid choice"),
        (["--repeats", "0"], 2, "at least 1"),
        (["--seconds", "0"], 2, "above 0"),
    ],
)
def test_what_cannot_be_measured_says_why(
    options: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli.main(["bench", "ratios", *options])
    assert status == code
    assert says in capsys.readouterr().err
