"""Warnings that come for each frame are said once and counted."""

from __future__ import annotations

import logging

import pytest

from allfocus.runtime.streams.repeats import Repeats

log = logging.getLogger("allfocus")


def test_alike_messages_are_told_once_and_others_pass(caplog: pytest.LogCaptureFixture) -> None:
    with Repeats("test_repeats") as repeats:
        for index in range(5):
            log.warning("frame %d left out: at 0x%x", index, 0xABC << index)
        log.warning("frame 9 left out: another reason")
    log.warning("frame 0 left out: at 0x1")
    assert [record.getMessage() for record in caplog.records] == [
        "frame 0 left out: at 0xabc",
        "frame 9 left out: another reason",
        "frame 0 left out: at 0x1",
    ]
    assert repeats.told == [("frame 0 left out: at 0xabc", 4)]


def test_what_others_say_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with Repeats("pipeline") as repeats:
        for _ in range(3):
            log.warning("camera 0 gives no frames")
    assert len(caplog.records) == 3
    assert repeats.told == []
