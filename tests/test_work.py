"""What `allfocus deblur` and `allfocus watch` share: their options, and the values of a report."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from watched import Inverted, load_inverted, save

from allfocus.runtime import deblur_command, watch_command
from allfocus.runtime.errors import InputError, LimitError
from allfocus.runtime.jobs import Job, Naming, job_for
from allfocus.runtime.work import (
    Done,
    Failure,
    add_options,
    do_one,
    done_as_json,
    failure_as_json,
    tell,
)

JOB = Job(source=Path("a.png"), target=Path("out/a.png"), defocus=Path("out/m.png"), view=None)
DONE = Done(
    job=JOB,
    width=4,
    height=3,
    timings={"pre": 1.0, "infer": 5.5},
    skipped=0.25,
    notes=("its transparency was left out",),
)
FAILED = Failure(JOB, InputError("a.png: empty"))


def parser_with(add: Callable[[argparse.ArgumentParser], None]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add(parser)
    return parser


def defaults(add: Callable[[argparse.ArgumentParser], None]) -> dict[str, object]:
    return vars(parser_with(add).parse_args(["in", "-o", "out"]))


def test_both_commands_have_these_options() -> None:
    shared = vars(parser_with(add_options).parse_args([]))
    for module in (deblur_command, watch_command):
        assert shared.items() <= defaults(module.add_arguments).items()


def test_the_suffix_is_taken_as_the_help_says() -> None:
    """argparse takes `--suffix -sharp` for two options."""
    parser = parser_with(add_options)
    (advised,) = re.findall(r"as in (\S+)", " ".join(parser.format_help().split()))
    assert parser.parse_args([advised]).suffix == "-sharp"


@pytest.mark.parametrize(
    ("words", "value"),
    [("--quality=100", 100), ("--max-pixels=500000", 500_000), ("--max-pixels=1M", 10**6)],
)
def test_numbers(words: str, value: int) -> None:
    assert value in vars(parser_with(add_options).parse_args([words])).values()


def test_as_json() -> None:
    assert done_as_json(DONE) == {
        "input": "a.png",
        "output": str(Path("out/a.png")),
        "defocus": str(Path("out/m.png")),
        "view": None,
        "trust_map": None,
        "map_from": None,
        "width": 4,
        "height": 3,
        "milliseconds": {"pre": 1.0, "infer": 5.5},
        "skipped": 0.25,
        "trust": None,
        "notes": ["its transparency was left out"],
    }
    assert failure_as_json(FAILED) == {
        "input": "a.png",
        "error": "a.png: empty",
        "kind": "InputError",
    }


def test_trust_is_told_where_outputs_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    done = replace(DONE, trust=0.876)
    tell(done, quiet=False)
    assert capsys.readouterr().out.endswith("6 ms, 25% in focus, trust 0.88\n")
    assert done_as_json(done)["trust"] == 0.876


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_told(capsys: pytest.CaptureFixture[str], quiet: bool) -> None:
    tell(DONE, quiet)
    tell(FAILED, quiet)
    said = capsys.readouterr()
    line = f"a.png -> {Path('out/a.png')}  4x3, 6 ms, 25% in focus\n"
    assert said.out == ("" if quiet else line)
    assert said.err == "allfocus: a.png: its transparency was left out\nallfocus: a.png: empty\n"


def of_python() -> None:
    raise MemoryError


def of_numpy() -> None:
    np.empty((1 << 30, 1 << 17), np.uint8)


def of_opencv() -> None:
    cv2.resize(np.zeros((2, 2), np.uint8), (1 << 30, 1 << 17))


def misuse() -> None:
    cv2.resize(np.zeros((2, 2), np.uint8), (0, 0))


def do(folder: Path) -> Done:
    job = job_for(save(folder / "a.png"), folder / "out" / "a.png", Naming())
    return do_one(load_inverted("x"), job, None, 100)


LACKS = [(of_python, "none is left"), (of_numpy, "128. TiB"), (of_opencv, "140737488355328 bytes")]


@pytest.mark.parametrize(("lack", "reason"), LACKS)
@pytest.mark.parametrize("where", ["imdecode", "_run", "imencode"])
def test_a_lack_of_memory_is_not_the_pictures_fault(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    lack: Callable[[], None],
    reason: str,
) -> None:
    monkeypatch.setattr(Inverted if where == "_run" else cv2, where, lambda *_: lack())
    with pytest.raises(LimitError, match=rf"a\.png: too large .*{reason}.*less --memory") as raised:
        do(tmp_path)
    assert raised.type is LimitError
    assert not list((tmp_path / "out").glob("*"))


def test_what_opencv_is_asked_wrongly_is_a_fault_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inverted, "_run", lambda *_: misuse())
    with pytest.raises(cv2.error):
        do(tmp_path)


def refuse() -> None:
    raise LimitError("a memory budget of 1 MiB is too small")


@pytest.mark.parametrize("lack", [refuse, of_numpy])
def test_an_error_keeps_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lack: Callable[[], None]
) -> None:
    """`allfocus deblur` collects its errors: with their pictures, less room would be left each."""
    monkeypatch.setattr(Inverted, "_run", lambda *_: lack())
    with pytest.raises(LimitError, match=r"a\.png: ") as raised:
        do(tmp_path)
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)
