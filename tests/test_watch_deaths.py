"""`allfocus watch` after starts that died at a picture: the others are done, and then it too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from watched import KEPT, Inverted, enter, once, save, shown

from allfocus.runtime import model_options
from allfocus.runtime.backend import Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import AllfocusError, BackendError
from allfocus.runtime.in_hand import DEADLY, InHand
from allfocus.runtime.ledger import FOLDER, Identity

NOTE = Path("out", FOLDER, "in-hand")


class Killed(BaseException):
    """Stands for the end of the process."""


class Deadly(Inverted):
    """Ends at pictures of `values`, as they say."""

    ends: dict[int, BaseException]
    seen: list[int]

    def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
        value = int(inputs["image"].flat[0])
        self.seen.append(value)
        if value in self.ends:
            raise self.ends[value]
        return super()._run(inputs)


@pytest.fixture(autouse=True)
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Deadly]:
    enter(tmp_path, monkeypatch)
    Deadly.ends, Deadly.seen = {}, []
    monkeypatch.setattr(
        model_options, "load", lambda *_, **__: Deblurrer(Deadly(Path("x"), Options()))
    )
    return Deadly


def starts(net: type[Deadly], *ends: BaseException | None, words: Sequence[str] = ()) -> list[int]:
    """What is tried by so many starts, each of which ends at the picture of value 1 as it says."""
    net.seen = []
    for end in ends:
        net.ends = {} if end is None else {1: end}
        if end is None:
            once(*words)
        else:
            with pytest.raises(type(end)):
                once(*words)
    return net.seen


def test_one_at_which_starts_die_is_done_last_then_passed_over_then_tried_again(
    net: type[Deadly], capsys: pytest.CaptureFixture[str]
) -> None:
    for value, name in enumerate("abc", 1):
        save(f"in/{name}.png", value)
    assert starts(net, *[Killed()] * DEADLY) == [1, 2, 3, 1, 1]
    assert shown() == ["b.png", "c.png"]
    capsys.readouterr()
    net.ends = {1: Killed()}
    assert once("--json") == 1
    said = capsys.readouterr()
    assert f"in/a.png: {DEADLY} starts in a row died while they were at it" in said.err
    assert json.loads(said.out)["kind"] == "LimitError"
    assert "a.png" not in Path("out", KEPT).read_text()
    assert starts(net, None) == [1]
    assert shown() == ["a.png", "b.png", "c.png"]
    assert not NOTE.exists()


def test_deaths_with_another_in_between_are_not_in_a_row(net: type[Deadly]) -> None:
    save("in/a.png", 1)
    assert starts(net, *[Killed()] * (DEADLY - 1)) == [1] * (DEADLY - 1)
    save("in/b.png", 2)
    net.ends = {2: Killed()}
    with pytest.raises(Killed):
        once()
    assert starts(net, *[Killed()] * (DEADLY - 1), None) == [1, 2, *[1] * (DEADLY - 1)]
    assert shown() == ["a.png", "b.png"]


def test_one_that_was_replaced_is_another(net: type[Deadly]) -> None:
    save("in/a.png", 1)
    starts(net, *[Killed()] * DEADLY)
    save("in/a.png", 9)
    save("in/b.png", 2)
    assert starts(net, None) == [9, 2]


def test_a_fault_of_ours_is_such_a_death(net: type[Deadly]) -> None:
    """A traceback too would end every start at the same picture."""
    save("in/a.png", 1)
    save("in/b.png", 2)
    assert starts(net, *[RuntimeError("no such thing")] * DEADLY) == [1, 2, 1, 1]
    assert once() == 1


@pytest.mark.parametrize("end", [KeyboardInterrupt(), BackendError("lost the GPU")])
def test_an_end_in_order_is_no_death(net: type[Deadly], end: BaseException) -> None:
    save("in/a.png", 1)
    net.ends = {1: end}
    for _ in range(DEADLY + 1):
        once()
    assert len(net.seen) == DEADLY + 1
    assert not NOTE.exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", '{"picture": "a.png"}', '{"deaths": 9}', '{"deaths": []}', "\0"]
)
def test_half_a_note_is_none(net: type[Deadly], text: str) -> None:
    save("in/a.png", 1)
    starts(net, Killed())
    NOTE.write_text(text)
    assert InHand(Path("out"), Path("in")).suspect is None
    assert starts(net, None) == [1]


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    hand = InHand(tmp_path / "gone", tmp_path)
    with pytest.raises(AllfocusError, match="seen"), hand.holding("a.png", Identity(1, 1)):
        raise AllfocusError("seen")
