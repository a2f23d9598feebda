"""The record of a watch: what it says after a kill, wherever that came."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.runtime.ledger import FOLDER, Identity, Ledger

FIRST, SECOND = Identity(10, 1), Identity(20, 2)


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(*_: object) -> None:
    raise Killed


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def book(out: Path) -> Path:
    """The ledger's file."""
    return out / FOLDER / "ledger.jsonl"


def opened(out: Path) -> Ledger:
    return Ledger(out, out.parent / "in")


def draft(ledger: Ledger, text: str) -> Path:
    path = ledger.draft().with_suffix(".png")
    path.write_text(text)
    return path


def publish(ledger: Ledger, name: str, identity: Identity, text: str = "") -> None:
    ledger.done(name, identity, {draft(ledger, text): ledger._out / name})


def shown(out: Path) -> dict[str, str]:
    """The outputs that anybody sees."""
    files = (p for p in out.rglob("*") if p.is_file() and FOLDER not in p.parts)
    return {p.relative_to(out).as_posix(): p.read_text() for p in files}


def drafts(out: Path) -> list[Path]:
    return list((out / FOLDER / "drafts").iterdir())


def test_what_was_done_is_known_later(out: Path) -> None:
    ledger = opened(out)
    publish(ledger, "a.png", FIRST, "sharp")
    ledger.failed("b.png", SECOND, "cut short")
    for known in (ledger, opened(out)):
        assert known.finished == {"a.png": FIRST, "b.png": SECOND}
        assert known.owners == {"a.png": "a.png"}
    assert shown(out) == {"a.png": "sharp"}
    assert drafts(out) == []


@pytest.mark.parametrize("name", ["ä b.png", "sub/deeper/x.png", 'q"\n.png', "\udcff.png"])
def test_names_of_all_kinds(out: Path, name: str) -> None:
    publish(opened(out), name, FIRST)
    assert opened(out).finished == {name: FIRST}
    assert (out / name).is_file()


def test_a_picture_that_was_replaced(out: Path) -> None:
    ledger = opened(out)
    publish(ledger, "a.png", FIRST, "old")
    publish(ledger, "a.png", SECOND, "new")
    assert opened(out).finished == {"a.png": SECOND}
    assert shown(out) == {"a.png": "new"}


def test_killed_before_the_renames(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(out)
    picture = draft(ledger, "sharp")
    beside = ledger.draft().with_name("map.png")
    beside.write_text("map")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", kill)
        with pytest.raises(Killed):
            ledger.done("s/a.png", FIRST, {picture: out / "s/a.png", beside: out / "s/a-map.png"})
    assert shown(out) == {}
    assert opened(out).finished == {"s/a.png": FIRST}
    assert shown(out) == {"s/a.png": "sharp", "s/a-map.png": "map"}
    assert drafts(out) == []


def test_killed_before_the_line(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(out)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", kill)
        with pytest.raises(Killed):
            publish(ledger, "a.png", FIRST)
    assert opened(out).finished == {}
    assert (shown(out), drafts(out)) == ({}, [])


def test_what_was_taken_away_stays_away(out: Path) -> None:
    publish(opened(out), "a.png", FIRST)
    (out / "a.png").unlink()
    assert opened(out).finished == {"a.png": FIRST}
    assert shown(out) == {}


def test_a_line_that_was_cut_anywhere(out: Path, book: Path) -> None:
    ledger = opened(out)
    publish(ledger, "a.png", FIRST)
    before = book.read_bytes()
    ledger.failed("b.png", SECOND, "cut short")
    whole = book.read_bytes()
    for length in range(len(before), len(whole)):
        book.write_bytes(whole[:length])
        (out / FOLDER / "drafts" / "2.png").write_text("draft")
        again = opened(out)
        assert again.finished == {"a.png": FIRST}
        assert (book.read_bytes(), drafts(out)) == (before, [])
    again.failed("b.png", SECOND, "cut short")
    assert book.read_bytes() == whole


def test_a_first_line_that_was_cut_anywhere(out: Path, book: Path) -> None:
    opened(out)
    whole = book.read_bytes()
    for length in range(len(whole)):
        book.write_bytes(whole[:length])
        assert opened(out).finished == {}
        assert book.read_bytes() == whole


@pytest.mark.parametrize("line", [b"\xff", b"{", b"[]", b"1", b'{"picture": "a.png"}', b"\0\0"])
def test_a_damaged_line_is_not_passed_over(out: Path, book: Path, line: bytes) -> None:
    ledger = opened(out)
    publish(ledger, "a.png", FIRST)
    lines = book.read_bytes().splitlines()
    book.write_bytes(b"\n".join([lines[0], line, lines[1], b""]))
    with pytest.raises(AllfocusError, match="line 2 is damaged"):
        opened(out)


def test_another_folder_is_refused(out: Path, tmp_path: Path) -> None:
    opened(out)
    with pytest.raises(UsageError, match=r"has the outputs of .*in, and those of .*other"):
        Ledger(out, tmp_path / "other")


def test_a_draft_of_an_older_line_is_not_lost(out: Path) -> None:
    """After a power cut a file system may have the later line and not the earlier rename."""
    ledger = opened(out)
    publish(ledger, "a.png", FIRST, "a")
    publish(ledger, "b.png", SECOND, "b")
    (out / "a.png").rename(out / FOLDER / "drafts" / "1.png")
    opened(out)
    assert shown(out) == {"a.png": "a", "b.png": "b"}


@pytest.mark.parametrize("before", range(3))  # forced to the disk: the draft, its folder, the line
def test_a_full_disk_is_told_and_nothing_is_half_done(
    out: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    ledger = opened(out)
    calls = iter(range(before))

    def full(_: int) -> None:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(AllfocusError, match=r"No space left.*--out"):
            publish(ledger, "a.png", FIRST, "sharp")
    assert shown(out) == {}
    again = opened(out)
    assert shown(out) == dict.fromkeys(again.finished, "sharp")
    assert bool(again.finished) == (before == 2), "a whole line counts"


def test_a_ledger_that_somebody_removed_is_missed(out: Path, book: Path) -> None:
    ledger = opened(out)
    book.unlink()
    with pytest.raises(AllfocusError, match=r"cannot write .*ledger\.jsonl"):
        publish(ledger, "a.png", FIRST)
    assert (shown(out), book.exists()) == ({}, False)


def test_a_folder_that_cannot_be_made(out: Path) -> None:
    out.mkdir()
    (out / FOLDER).write_text("in the way")
    with pytest.raises(AllfocusError, match="cannot write"):
        opened(out)


def test_what_is_discarded_is_gone(out: Path) -> None:
    ledger = opened(out)
    path = draft(ledger, "half")
    ledger.discard([path, path.with_suffix(".never")])
    assert drafts(out) == []


def test_the_lines_are_json_for_others_to_read(out: Path, book: Path) -> None:
    ledger = opened(out)
    publish(ledger, "a.png", FIRST)
    ledger.failed("b.png", SECOND, "cut short")
    head, done, failed = map(json.loads, book.read_text().splitlines())
    assert Path(head["watched"]).name == "in"
    about = {"picture": "a.png", "size": 10, "mtime_ns": 1, "outcome": "done"}
    assert done == {**about, "files": {"1.png": "a.png"}}
    assert (failed["outcome"], failed["error"]) == ("failed", "cut short")
