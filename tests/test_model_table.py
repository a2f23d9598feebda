"""The table of models in docs/models.md is that of the nets as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfocus.benchmarks import model_table
from allfocus.benchmarks.reported import REPORTED, system_of
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import UsageError

ROOT = Path(__file__).parent.parent
AGAIN = "run `allfocus bench models --write docs/models.md` (`--model NAME` for one) and commit it"


def test_the_page_holds_the_table_of_the_results() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    rows = model_table.read(ROOT / model_table.RESULTS)
    assert model_table.written(text, rows) == text, AGAIN


def test_the_results_hold_every_model() -> None:
    assert list(model_table.read(ROOT / model_table.RESULTS)) == list(MODELS), AGAIN


@pytest.mark.parametrize("name", MODELS)
def test_what_is_counted_has_not_changed_since(name: str) -> None:
    row = model_table.read(ROOT / model_table.RESULTS)[name]
    assert row.counted == model_table.count(name), AGAIN


@pytest.mark.parametrize("name", MODELS)
def test_every_model_belongs_to_a_paper(name: str) -> None:
    assert system_of(name) in REPORTED
    assert name.startswith(system_of(name))


@pytest.mark.rtx
def test_measuring_a_model_of_test_size(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    out, page = tmp_path / "models.json", tmp_path / "page.md"
    page.write_text(f"before\n{model_table.BEGIN}\nold\n{model_table.END}\nafter\n")
    command = ["--model", "didanet-tiny", "--out", str(out), "--write", str(page)]
    assert model_table.main(command) == 0
    (row,) = model_table.read(out).values()
    assert row.measured.engine_bytes > 10_000
    assert row.measured.onnx_bytes > 2 * row.counted.parameters
    text = page.read_text()
    assert text.startswith(f"before\n{model_table.BEGIN}\n| model |")
    assert "`didanet-tiny`" in text
    assert "old" not in text


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(UsageError, match="expected the lines"):
        model_table.written("no table here", {})


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--out", b'{"a": 1}', "expected what `allfocus bench models --out` wrote"),
        ("--out", b"[]", "expected what `allfocus bench models --out` wrote"),
        ("--out", b"\x89PNG\xff", "expected what `allfocus bench models --out` wrote"),
        ("--write", b"no marks", "around the table"),
        ("--write", b"\xff\xfe", "expected a text file with the marks"),
        ("--write", None, "expected a text file with the marks"),
    ],
)
def test_wrong_files_are_told_before_the_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    content: bytes | None,
    says: str,
) -> None:
    monkeypatch.setattr(model_table, "count", lambda _: pytest.fail("counted"))
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    words = ["--model", "didanet-tiny", "--out", str(tmp_path / "new.json"), option, str(path)]
    assert model_table.main(words) == 2
    assert says in capsys.readouterr().err
