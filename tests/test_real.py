"""Numbers as callers give them."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.backend import Options
from allfocus.runtime.ensemble import turns
from allfocus.runtime.errors import UsageError
from allfocus.runtime.real import above_zero, real, whole

KINDS = (int, np.int8, np.uint8, np.int64, np.uint16)


@given(st.integers(0, 100), st.integers(0, 100), st.sampled_from(KINDS))
def test_whole_numbers_of_any_kind_are_pythons(number: int, least: int, kind: type) -> None:
    found = whole(kind(number), least)
    assert found == (number if number >= least else None)
    assert type(found) in (int, type(None))


@pytest.mark.parametrize("value", [True, np.True_, 1.0, np.float32(1), "1", None, [1], b"1", 1j])
def test_what_is_no_whole_number(value: object) -> None:
    assert whole(value, 0) is None


@pytest.mark.parametrize("value", [True, np.True_, "1", None, [1.0], 10**400])
def test_what_is_no_number(value: object) -> None:
    assert real(value) is None
    assert above_zero(value) is None


@pytest.mark.parametrize("value", [0, -1, -math.inf, math.inf, math.nan, np.float32(0)])
def test_not_above_zero(value: object) -> None:
    assert above_zero(value) is None


def test_options_of_numpys_kinds_can_be_written_down() -> None:
    options = Options(device=np.int64(1), threads=np.uint8(2), streams=np.int32(3))  # type: ignore[arg-type]
    assert json.dumps(asdict(options)) == json.dumps(
        asdict(Options(device=1, threads=2, streams=3))
    )
    assert turns(np.int64(4)) == turns(4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"device": -1}, "device: expected a whole number of 0 or more, got -1"),
        ({"threads": 1.5}, "threads: expected a whole number of 0 or more, got 1.5"),
        ({"threads": True}, "threads: expected a whole number of 0 or more, got True"),
        ({"streams": 0}, "streams: expected a whole number of 1 or more, got 0"),
        ({"streams": "2"}, "streams: expected a whole number of 1 or more, got '2'"),
    ],
)
def test_options_that_are_no_numbers(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Options(**wrong)  # type: ignore[arg-type]
