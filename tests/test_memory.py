"""Amounts of memory as people write them, and what this process holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime import memory
from allfocus.runtime.errors import UsageError
from allfocus.runtime.memory import format_bytes, parse_bytes, resident, sufficient_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GiB", 2 << 30),
        ("1.5 gib", 3 << 29),
        ("800MB", 800_000_000),
        ("2G", 2_000_000_000),
        ("512Ki", 512 << 10),
        ("4096", 4096),
        (123, 123),
    ],
)
def test_amounts(text: str | int, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "0", 0, -5, True, 1.5, None, "2TiB", "1e9"])
def test_what_is_no_amount_is_refused(text: object) -> None:
    with pytest.raises(UsageError, match="expected bytes, or an amount such as 2GiB"):
        parse_bytes(text)  # type: ignore[arg-type]


def test_amounts_for_people() -> None:
    said = ["1 bytes", "1 KiB", "5 MiB", "1.5 GiB"]
    assert [format_bytes(b) for b in (1, 1024, 5 << 20, 3 << 29)] == said


@given(st.floats(1, 2**45))
def test_who_allows_what_is_said_to_suffice_allows_enough(amount: float) -> None:
    allowed = parse_bytes(sufficient_bytes(amount).replace(" bytes", ""))
    assert amount <= allowed <= max(amount + 1, 1.11 * amount) or allowed - amount < 1 << 20


def test_a_program_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells that name beside the figures, in the bytes that it was given."""
    status = tmp_path / "status"
    status.write_bytes("Name:\tschärfen.py\nVmRSS:\t  1024 kB\n".encode())
    monkeypatch.setattr(memory, "_STATUS", status)
    assert resident() == 1 << 20


def test_what_is_held_grows_with_what_is_taken() -> None:
    before = resident()
    ballast = np.ones(8 << 20)  # 64 MiB
    after = resident()
    if before is None or after is None:
        pytest.skip("this system does not tell without psutil")
    assert 0.9 * ballast.nbytes < after - before < 1.5 * ballast.nbytes
