"""`allfocus watch` with a net that inverts: what is done, what is refused, what is said."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from watched import KEPT, Inverted, enter, once, run, save, shown, value_of

from allfocus.runtime import model_options
from allfocus.runtime.backend import Options
from allfocus.runtime.deblurrer import MEMORY, Deblurrer
from allfocus.runtime.errors import BackendError
from allfocus.runtime.ledger import FOLDER
from allfocus.runtime.lock import locked


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    enter(tmp_path, monkeypatch)
    return tmp_path


def test_what_is_there_is_done_once(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    save("in/b.PNG", 20)
    assert once() == 0
    assert shown() == ["a.png", "b.PNG"]
    assert (value_of("out/a.png"), value_of("out/b.PNG")) == (245, 235)
    said = capsys.readouterr()
    assert said.out.startswith(f"{Path('in/a.png')} -> {Path('out/a.png')}  9x6")
    assert said.err == ""
    assert once() == 0
    assert capsys.readouterr().out == ""
    files = [p.relative_to("out").as_posix() for p in Path("out").rglob("*") if p.is_file()]
    assert sorted(files) == [KEPT, "a.png", "b.PNG"]


def test_what_the_next_stage_took_away_is_not_done_again() -> None:
    save("in/a.png")
    assert once() == 0
    Path("out/a.png").unlink()
    assert once() == 0
    assert shown() == []


def test_a_picture_that_was_replaced_is_done_again() -> None:
    save("in/a.png", 10)
    assert once() == 0
    save("in/a.png", 20)
    assert once() == 0
    assert value_of("out/a.png") == 235


def test_places_names_and_maps() -> None:
    save("in/a.png")
    save("in/sub/deep/a.png")
    assert once("--recursive", "--suffix=-sharp", "--map", "--map-view") == 0
    names = ("a-sharp-defocus-view.png", "a-sharp-defocus.png", "a-sharp.png")
    assert shown() == [*names, *(f"sub/deep/{name}" for name in names)]
    with Image.open("out/a-sharp-defocus.png") as image:
        assert np.array_equal(np.unique(np.asarray(image)), [5 * 256])


def test_what_is_not_taken_for_a_picture() -> None:
    for name in (".a.png", ".hidden/b.png", "c.png.part", "d.tmp", "e.txt", "f.png/g.txt"):
        path = Path("in", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no")
    Path("in/dangling.png").symlink_to("nowhere.png")
    save("in/sub/x.png")
    assert once() == 0
    assert shown() == []


def test_a_corrupt_picture_fails_once(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/a.png").write_bytes(b"no picture")
    save("in/b.png")
    assert once() == 1
    assert "in/a.png: not a picture" in capsys.readouterr().err
    assert shown() == ["b.png"]
    assert once() == 0
    assert capsys.readouterr().err == ""
    save("in/a.png")
    assert once() == 0
    assert shown() == ["a.png", "b.png"]


class Hungry(Inverted):
    """Says that it takes much memory."""

    bytes_per_pixel = 1e5


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        (("--max-pixels", "50"), "in/a.png: 9x6 is 54 pixels, the limit is 50"),
        (("--memory", "1MiB"), "in/a.png: a memory budget of 1 MiB is too small"),
    ],
)
def test_what_a_limit_refuses_is_done_when_the_next_start_allows_it(
    limit: Sequence[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(model: str, *, memory: str | None, **_: Any) -> Deblurrer:
        return Deblurrer(Hungry(Path(model), Options()), memory=memory or MEMORY)

    monkeypatch.setattr(model_options, "load", load)
    save("in/a.png", 10)
    for _ in range(2):  # each start says so
        assert once(*limit, "--json") == 1
        said = capsys.readouterr()
        assert said.err.count(reason) == 1
        assert json.loads(said.out)["kind"] == "LimitError"
        assert shown() == []
    assert once() == 0
    assert value_of("out/a.png") == 245


def test_one_that_is_too_large_for_the_memory_does_not_end_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/a.png", 10)
    save("in/b.png", 20)
    real = Inverted._run

    def run_out(self: Inverted, inputs: dict[str, Any]) -> dict[str, Any]:
        if inputs["image"].max() == 10:
            raise MemoryError("Unable to allocate 462 MiB")
        return real(self, inputs)

    with monkeypatch.context() as patch:
        patch.setattr(Inverted, "_run", run_out)
        assert once("--json") == 1
    said = capsys.readouterr()
    assert "in/a.png: too large for the memory there is (Unable to allocate 462 MiB)" in said.err
    assert json.loads(said.out.splitlines()[0])["kind"] == "LimitError"
    assert shown() == ["b.png"]
    assert once() == 0
    assert shown() == ["a.png", "b.png"]


def test_json_has_a_line_for_each_picture(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png")
    Path("in/b.png").write_bytes(b"")
    assert once("--json") == 1
    done, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert (done["input"], done["output"]) == (str(Path("in/a.png")), str(Path("out/a.png")))
    assert (failed["input"], failed["kind"]) == (str(Path("in/b.png")), "InputError")


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are any bytes")
def test_a_name_that_is_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png").rename(os.fsdecode(b"in/\xff.png"))
    assert once() == 0
    assert r"in/\udcff.png -> out/\udcff.png" in capsys.readouterr().out
    assert once() == 0
    assert capsys.readouterr().out == ""


def test_once_ends_where_the_folder_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, watched = os.scandir, os.path.realpath("in")

    def scandir(path: Any) -> Any:
        if str(path).startswith(watched):
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert once("--json") == 1
    said = capsys.readouterr()
    assert said.err.startswith("allfocus: in cannot be read (Stale file handle), so that what")
    assert "start again" in json.loads(said.out)["error"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("gone", "-o", "out"), "gone: nothing there, where a folder to watch was expected"),
        (("in/a.png", "-o", "out"), "in/a.png: a file, where"),
        (("in", "-o", "in/a.png"), "in/a.png: a file, where"),
        (("in", "-o", "in"), "is the watched folder itself"),
        (("in", "-o", "in/../in/", "--recursive"), "is the watched folder itself"),
        (("in", "-o", ".", "--recursive"), "is a folder above in"),
        (("in", "-o", "out", "--suffix", "a/b"), "expected a part of a name"),
    ],
)
def test_folders_that_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], words: Sequence[str], reason: str
) -> None:
    save("in/a.png")
    assert run(*words, "--once") == 2
    assert reason in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("words", [("--every", "-1"), ("--settle", "nan"), ("--every", "x")])
def test_times_that_are_none(words: Sequence[str]) -> None:
    assert once(*words) == 2


def test_an_output_folder_within_the_watched_one() -> None:
    save("in/a.png")
    for _ in range(2):
        assert run("in", "-o", "in/sharp", "--once", "--settle", "0", "--recursive") == 0
        assert shown("in") == ["a.png", "sharp/a.png"]


def test_a_second_watch_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png")
    path = Path("out", FOLDER, "lock")
    with locked(path, lambda: None):
        path.write_text("process 17 on camera, watching in\n")
        assert once() == 2
    told = capsys.readouterr().err
    assert "out is written by another `allfocus watch` (process 17 on camera, watching in)" in told
    assert once() == 0


def test_the_lock_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_at_lock(*_: Any, **__: Any) -> Deblurrer:
        text = Path("out", FOLDER, "lock").read_text()
        assert text.startswith(f"process {os.getpid()} on ")
        raise BackendError("seen")

    monkeypatch.setattr(model_options, "load", look_at_lock)
    assert once() == 1


def test_the_outputs_of_another_folder_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    assert once() == 0
    save("other/a.png", 20)
    assert run("other", "-o", "out", "--once", "--settle", "0") == 2
    assert "choose another --out" in capsys.readouterr().err
    assert value_of("out/a.png") == 245


def test_a_file_that_stands_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    save("out/a.png", 77)
    assert once() == 1
    told = capsys.readouterr().err
    assert "out/a.png is there already, and not from this watch" in told
    assert value_of("out/a.png") == 77
    assert once(*re.findall(r"--suffix\S*[^\s,]", told)) == 0
    assert shown() == ["a-sharp.png", "a.png"]
    save("in/a.png", 20)
    assert once("--overwrite") == 0
    assert value_of("out/a.png") == 235


def test_two_pictures_for_one_output(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png", 10)
    save("in/a-defocus.png", 20)
    assert once("--map", "--overwrite") == 1
    assert "a-defocus.png was made from a-defocus.png; rename one" in capsys.readouterr().err
    assert value_of("out/a-defocus.png") == 235


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "sub/a.png"])
def test_an_output_that_cannot_have_its_name(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Told before anything is recorded: a start would not get past it otherwise."""
    save("in/b.png")
    draft = save("in/c.png")
    Path("in", name).parent.mkdir(exist_ok=True)
    draft.rename(Path("in", name))
    Path("out").mkdir()
    Path("out/sub").write_text("in the way")
    for _ in range(2):
        assert once("--suffix=-sharp", "--recursive") == 1
        assert "cannot write out" in capsys.readouterr().err
        assert shown() == ["b-sharp.png", "sub"]


def test_an_output_folder_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    save("in/a.png")
    Path("out").mkdir()
    Path("out", FOLDER).write_text("in the way")
    assert once() == 1
    told = capsys.readouterr().err
    assert "cannot write to out/.allfocus-watch: File exists; choose another --out\n" in told


def test_a_full_disk_stops_it_and_is_made_up_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/a.png")
    save("in/b.png")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert once() == 1
    told = capsys.readouterr()
    assert told.err.count("No space left on device; free some space") == 1
    assert (told.out, shown()) == ("", [])
    assert once() == 0
    assert shown() == ["a.png", "b.png"]


def test_what_cannot_be_encoded_is_told_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the picture's fault: recorded, and the others are done."""
    save("in/a.png")
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "imencode", lambda *_: (False, None))
        assert once("--json") == 1
    said = capsys.readouterr()
    assert "allfocus: out/a.png: OpenCV cannot write 9x6 as PNG; choose PNG" in said.err
    assert json.loads(said.out)["kind"] == "InputError"
    save("in/b.png")
    assert once() == 0
    assert shown() == ["b.png"]


def test_the_bar_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save("in/a.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert once() == 0
    assert "1/1" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_after_the_picture_in_hand(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Signalled(Inverted):
        def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
            os.kill(os.getpid(), number)
            return super()._run(inputs)

    monkeypatch.setattr(
        model_options, "load", lambda *_, **__: Deblurrer(Signalled(Path("x"), Options()))
    )
    former = signal.getsignal(number)
    save("in/a.png")
    save("in/b.png")
    assert run("in", "-o", "out", "--settle", "0") == 0
    assert shown() == ["a.png"]
    assert not Path("out", FOLDER, "lock").exists()
    assert signal.getsignal(number) == former


def test_a_second_ctrl_c_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Signalled(Inverted):
        def _run(self, _: dict[str, Any]) -> dict[str, Any]:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("not reached")

    monkeypatch.setattr(
        model_options, "load", lambda *_, **__: Deblurrer(Signalled(Path("x"), Options()))
    )
    save("in/a.png")
    assert run("in", "-o", "out", "--settle", "0") == 130
    assert "nothing half-written" in capsys.readouterr().err
    assert shown() == []
