"""The options of a face: which there are, and which of them go together."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from allfocus.export.face_options import add_face, face_of
from allfocus.runtime.errors import UsageError
from allfocus.runtime.spec import IOS, Io


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_face(parser, "frame")
    return parser.parse_args(words)


def test_what_is_not_said_is_the_usual() -> None:
    args = parsed()
    assert (args.io, args.color, args.matrix, args.range) == ("frame", "rgb", None, None)
    made = face_of(args.io, args.color, args.matrix, args.range)
    assert made == {"io": "frame", "color": "rgb", "matrix": "bt709", "range": "limited"}


@pytest.mark.parametrize("io", IOS)
def test_every_face_can_be_asked_for(io: Io) -> None:
    assert parsed("--io", io).io == io


def test_matrix_and_range_are_kept() -> None:
    args = parsed("--io", "p010", "--matrix", "bt2020", "--range", "full")
    made = face_of(args.io, args.color, args.matrix, args.range)
    assert (made["matrix"], made["range"]) == ("bt2020", "full")


@pytest.mark.parametrize(
    ("face", "says"),
    [
        (("float", "bgr", None, None), "--color bgr: the float face takes RGB only.*--io frame"),
        (("nv12", "bgr", None, None), "--color bgr: the nv12 face has no order of channels"),
        (("frame", "rgb", "bt601", None), "--matrix bt601: the frame face has none.*--io nv12"),
        (("frame16", "rgb", None, "full"), "--range full: the frame16 face has none"),
    ],
)
def test_what_does_not_go_together_is_refused(face: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        face_of(*face)
