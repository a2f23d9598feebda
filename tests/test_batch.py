"""Batches: the same pictures as `allfocus deblur` makes, by several workers, each once."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import psutil
import pytest
from killed import Renames, running_after
from photos import OPTIONS, SETTINGS, photos

from allfocus import cli
from allfocus.runtime import batch
from allfocus.runtime.batch import Settings, remaining, run_local, workers_for
from allfocus.runtime.errors import BackendError, UnknownModelError
from allfocus.runtime.jobs import Job, Naming, plan
from allfocus.runtime.lock import locked


def jobs(folder: Path, out: Path) -> list[Job]:
    return plan([str(folder)], out, Naming(), recursive=False, overwrite=True)


def test_two_workers_make_what_deblur_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "in", 5)
    (folder / "bad.png").write_bytes(b"no picture")
    words = [str(folder), "-o", str(tmp_path / "many"), *OPTIONS, "--workers", "2", "--map"]
    assert cli.main(["batch", *words, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert len(told["files"]) == 5
    assert [Path(f["input"]).name for f in told["failed"]] == ["bad.png"]
    words = [str(folder), "-o", str(tmp_path / "one"), *OPTIONS, "--map"]
    assert cli.main(["deblur", *words]) == 1
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "many" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "many").glob("*.png"))) == 10


def test_resume_does_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = photos(tmp_path / "in", 4), tmp_path / "out"
    words = ["batch", str(folder), "-o", str(out), *OPTIONS, "--workers", "1", "--json"]
    assert cli.main(words) == 0
    (out / "2.png").unlink()
    (out / ".2-allfocus-a1b2c3d4.png").write_bytes(b"half")
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("[0-9].png")}
    capsys.readouterr()
    assert cli.main(words) == 2  # something is there
    capsys.readouterr()
    assert cli.main([*words, "--resume"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["there_already"], len(told["files"])) == (3, 1)
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("[0-9].png")}
    assert {name: after[name] for name in before} == before
    assert sorted(p.name for p in out.iterdir()) == [f"{n}.png" for n in range(4)]


@pytest.mark.parametrize("more", [[], ["--map"], ["--overwrite"], ["--overwrite", "--map"]])
def test_resume_writes_over_no_input(
    tmp_path: Path, more: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "in", 2)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    words = [str(folder), "-o", str(folder / ".." / "in"), *OPTIONS, "--workers", "1"]
    assert cli.main(["batch", *words, "--resume", *more]) == 2
    expected = "give one of them" if "--overwrite" in more else "is an input"
    assert expected in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_resume_beside_the_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos(tmp_path / "in", 2)
    words = ["batch", str(folder), "-o", str(folder), *OPTIONS, "--workers", "1", "--json"]
    assert cli.main([*words, "--suffix=-sharp"]) == 0
    (folder / "1-sharp.png").unlink()
    capsys.readouterr()
    assert cli.main([*words, "--suffix=-sharp", "--resume"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["there_already"], len(told["files"])) == (1, 1)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["0-sharp.png", "0.png", "1-sharp.png", "1.png"]


@pytest.mark.parametrize("limit", [("--max-pixels", "1k"), ("--memory", "10kB")])
def test_resume_tries_again_what_a_limit_refused(
    tmp_path: Path, limit: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photos(tmp_path / "in", 1), tmp_path / "out"
    words = ["batch", str(folder), "-o", str(out), *OPTIONS, "--workers", "1", "--json"]
    assert cli.main([*words, *limit]) == 1
    (failed,) = json.loads(capsys.readouterr().out)["failed"]
    assert failed["kind"] == "LimitError"
    assert cli.main([*words, "--resume"]) == 0
    assert (out / "0.png").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_batch_that_is_killed_goes_on(tmp_path: Path) -> None:
    folder, out = photos(tmp_path / "in", 12), tmp_path / "out"
    words = [sys.executable, "-m", "allfocus", "batch", str(folder), "-o", str(out), *OPTIONS]
    words += ["--workers", "1"]
    process = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL)
    limit = time.monotonic() + 60
    while not list(out.glob("[0-9]*.png")) and time.monotonic() < limit:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert 1 <= len(list(out.glob("[0-9]*.png"))) <= 12
    assert cli.main([*words[3:], "--resume"]) == 0
    made = sorted(p.name for p in out.iterdir())
    assert made == sorted(f"{n}.png" for n in range(12))
    for path in out.iterdir():
        assert cv2.imread(str(path)) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="counts writes with inotify")
def test_workers_end_when_their_parent_alone_is_killed(tmp_path: Path) -> None:
    folder, out = photos(tmp_path / "in", 12, side=144), tmp_path / "out"
    out.mkdir()
    words = [sys.executable, "-m", "allfocus", "batch", str(folder), "-o", str(out), *OPTIONS]
    words += ["--workers", "2", "--skip", "off"]
    with Renames(out) as renames:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + 60
        while not list(out.glob("[0-9]*.png")) and time.monotonic() < limit:
            time.sleep(0.01)
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        assert running_after(5, started) == []
        done = renames.names()
        assert len(started) >= 2
        assert 1 <= len(done) < 12
        assert cli.main([*words[3:], "--resume"]) == 0
        assert sorted(done + renames.names()) == sorted(f"{n}.png" for n in range(12))
    assert sorted(p.name for p in out.iterdir()) == sorted(f"{n}.png" for n in range(12))
    for path in out.iterdir():
        assert cv2.imread(str(path)) is not None


def test_a_worker_that_dies_is_told(tmp_path: Path) -> None:
    todo = jobs(photos(tmp_path / "in", 8), tmp_path / "out")
    outcomes = run_local(todo, [SETTINGS])
    next(outcomes)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(BackendError, match=r"a worker process died.*--resume"):
        list(outcomes)


def test_a_worker_that_cannot_load_its_model_tells_why(tmp_path: Path) -> None:
    todo = jobs(photos(tmp_path / "in", 2), tmp_path / "out")
    with pytest.raises(UnknownModelError, match="did you mean"):
        list(run_local(todo, [replace(SETTINGS, model="didanot")]))
    assert not multiprocessing.active_children()


def test_an_early_end_leaves_no_process(tmp_path: Path) -> None:
    outcomes = run_local(jobs(photos(tmp_path / "in", 8), tmp_path / "out"), [SETTINGS])
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()
    assert 1 <= len(list((tmp_path / "out").iterdir())) < 8


@pytest.mark.parametrize("source", ["file", "stdin"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=("plain", "of Windows"))
def test_inputs_come_from_a_list(
    tmp_path: Path, source: str, mark: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos(tmp_path / "in", 3)
    lines = f"{mark}{folder / '0.png'}\n\n{folder / '2.png'}\n"
    listed = tmp_path / "list.txt"
    listed.write_text(lines, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    given = str(listed) if source == "file" else "-"
    out = tmp_path / "out"
    words = ["batch", "--list", given, "-o", str(out), *OPTIONS, "--workers", "1"]
    assert cli.main(words) == 0
    assert sorted(p.name for p in out.iterdir()) == ["0.png", "2.png"]


def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photos(tmp_path / "in", 1), tmp_path / "out"
    for words, text in (
        (["-o", str(out)], "no inputs"),
        (["--list", str(tmp_path / "none"), "-o", str(out)], "--list"),
        ([str(folder), "-o", str(out), "--model", "didanot"], "did you mean"),
    ):
        assert cli.main(["batch", *words]) != 0
        assert text in capsys.readouterr().err
    with locked(out / ".allfocus-batch.lock", lambda: None):
        assert cli.main(["batch", str(folder), "-o", str(out)]) == 2
    assert "another `allfocus batch` writes there" in capsys.readouterr().err


@pytest.mark.parametrize("there", [True, False])
def test_outputs_go_to_a_folder(
    tmp_path: Path, there: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = photos(tmp_path / "in", 1), tmp_path / "sharp.png"
    if there:
        out.write_bytes(b"mine")
    assert cli.main(["batch", str(folder / "0.png"), "-o", str(out), *OPTIONS, "--overwrite"]) == 2
    assert "where a folder was expected; give a" in capsys.readouterr().err
    assert out.is_file() == out.exists() == there


@pytest.mark.parametrize(
    ("gpus", "backend", "asked", "jobs", "expected"),
    [
        (0, "auto", 0, 99, [(0, 1)] * 8),
        (0, "auto", 0, 1, [(0, 8)]),  # one picture has all cores
        (0, "auto", 0, 3, [(0, 2)] * 3),
        (0, "auto", 3, 99, [(0, 2)] * 3),
        (2, "auto", 0, 99, [(0, 4), (1, 4)]),
        (2, "auto", 0, 1, [(0, 8)]),
        (2, "auto", 4, 99, [(0, 2), (1, 2), (0, 2), (1, 2)]),
        (2, "cpu", 2, 99, [(0, 4)] * 2),
        (2, "openvino", 2, 99, [(0, 4)] * 2),
        (0, "auto", 20, 99, [(0, 1)] * 20),
    ],
)
def test_cores_and_gpus_are_shared_out(
    gpus: int,
    backend: str,
    asked: int,
    jobs: int,
    expected: Sequence[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = SimpleNamespace(devices=[object()] * gpus)
    monkeypatch.setattr(batch, "find_gpus", lambda: found)
    monkeypatch.setattr(batch, "available_cpus", lambda: 8)
    given: dict[str, Any] = {**SETTINGS.__dict__, "backend": backend, "threads": 0}
    workers = workers_for(Settings(**given), asked, jobs)
    assert [(w.device, w.threads) for w in workers] == list(expected)


@pytest.mark.parametrize(("asked", "devices"), [(1, [1]), (2, [1, 0]), (0, [1, 0])])
def test_work_begins_at_the_gpu_that_is_named(
    asked: int, devices: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = SimpleNamespace(devices=[object()] * 2)
    monkeypatch.setattr(batch, "find_gpus", lambda: found)
    given: dict[str, Any] = {**SETTINGS.__dict__, "backend": "auto", "device": 1}
    assert [w.device for w in workers_for(Settings(**given), asked, 9)] == devices


def test_a_picture_with_its_map_is_done_when_both_are_there(tmp_path: Path) -> None:
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    naming = Naming(defocus=True)
    todo = plan([str(folder)], out, naming, recursive=False, overwrite=True)
    out.mkdir()
    for name in ("0.png", "0-defocus.png", "1.png"):
        (out / name).write_bytes(b"")
    assert [job.source.name for job in remaining(todo)] == ["1.png"]


def test_resume_removes_what_was_half_written_and_nothing_else(tmp_path: Path) -> None:
    folder, out = photos(tmp_path / "in", 1), tmp_path / "out"
    (folder / "0.png").rename(folder / "img[1].png")
    out.mkdir()
    kept = [".img[1]-original.png", ".img[1]-a1b2c3d4.png", ".img1-allfocus-a1b2c3d4.png"]
    for name in (*kept, ".img[1]-allfocus-a1b2c3d4.png"):
        (out / name).touch()
    assert len(remaining(jobs(folder, out))) == 1
    assert sorted(p.name for p in out.iterdir()) == sorted(kept)


def test_an_address_is_of_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photos(tmp_path / "in", 1)
    words = [str(folder), "-o", str(tmp_path / "out"), *OPTIONS, "--address", "auto"]
    assert cli.main(["batch", *words]) == 2
    assert "--address is that of a Ray cluster: for --engine ray only" in capsys.readouterr().err


def test_names_in_a_list_keep_their_blanks(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 1)
    (folder / "0.png").rename(folder / "0 .png")
    (folder / " lead.png").write_bytes((folder / "0 .png").read_bytes())
    chosen = tmp_path / "list.txt"
    chosen.write_text(f"{folder / '0 .png'}\n\n{folder / ' lead.png'}\n", encoding="utf-8")
    words = ["batch", "--list", str(chosen), "-o", str(tmp_path / "out"), *OPTIONS]
    assert cli.main([*words, "--workers", "1"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [" lead.png", "0 .png"]
