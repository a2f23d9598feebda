"""Batches on Ray: the same files as by local workers, each written once, whatever is killed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import psutil
import pytest
from killed import Renames, running_after
from photos import OPTIONS as USUAL_OPTIONS
from photos import SETTINGS as USUAL_SETTINGS
from photos import photos

from allfocus import cli
from allfocus.runtime import batch_ray
from allfocus.runtime.batch import Settings
from allfocus.runtime.batch_ray import Actor, places, run_ray
from allfocus.runtime.errors import BackendError, LimitError, UnknownModelError
from allfocus.runtime.jobs import Job, Naming, plan
from allfocus.runtime.work import Done, Failure

SETTINGS = replace(USUAL_SETTINGS, skip="off")
OPTIONS = [*USUAL_OPTIONS, "--skip", "off"]
COUNT = 16
NAMES = sorted(f"{index}.png" for index in range(COUNT))

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts writes with inotify")


@pytest.fixture(scope="module")
def home() -> Iterator[str]:
    """Ray's files in a place of their own, short enough for its sockets; nothing told to others."""
    folder = tempfile.mkdtemp(prefix="ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("RAY_AUTH_MODE", "disabled")  # it would write a token to the user's home
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(home: str) -> Iterator[str]:
    """The address of a cluster on this machine, with two cores."""
    ray = pytest.importorskip("ray", reason="needs Ray")
    pytest.importorskip("ray.data", reason="needs Ray Data")
    context = ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        _temp_dir=home,
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def jobs(folder: Path, out: Path, *, maps: bool = False) -> list[Job]:
    naming = Naming(defocus=maps)
    return plan([str(folder)], out, naming, recursive=False, overwrite=True)


def started(folder: Path, out: Path, more: Sequence[str]) -> subprocess.Popen[bytes]:
    """A batch in a process of its own, in the middle of its work."""
    words = [str(folder), "-o", str(out), *OPTIONS, "--engine", "ray", "--workers", "1", *more]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "allfocus", "batch", *words], **quiet)
    limit = time.monotonic() + 100
    while not list(out.glob("[0-9]*.png")) and time.monotonic() < limit:
        time.sleep(0.005)
    return process


def killed(process: subprocess.Popen[bytes], of: int) -> list[psutil.Process]:
    """Kill a batch; the processes below `of` that make pictures for it."""
    below = psutil.Process(of).children(recursive=True)
    actors = [each for each in below if "MapWorker" in " ".join(each.cmdline())]
    process.kill()
    process.wait()
    return actors


def check_all_whole(out: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == NAMES
    for path in out.iterdir():
        assert cv2.imread(str(path)) is not None


@pytest.mark.usefixtures("cluster")
def test_a_cluster_makes_what_deblur_makes(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photos(tmp_path / "in", 4)
    (folder / "bad.png").write_bytes(b"no picture")
    large = cv2.resize(cv2.imread(str(folder / "0.png")), (64, 64))  # type: ignore[arg-type]
    cv2.imwrite(str(folder / "large.png"), large)
    words = [str(folder), *OPTIONS, "--max-pixels", "4000"]
    ray = [*words, "-o", str(out), "--workers", "2", "--engine", "ray", "--json"]
    assert cli.main(["batch", *ray]) == 1
    told = json.loads(capsys.readouterr().out)
    assert len(told["files"]) == 4
    failed = {Path(each["input"]).name: each for each in told["failed"]}
    assert {name: each["kind"] for name, each in failed.items()} == {
        "bad.png": "InputError",
        "large.png": "LimitError",
    }
    assert "bad.png" in failed["bad.png"]["error"]
    assert cli.main(["deblur", *words, "-o", str(tmp_path / "one")]) == 1
    for path in (tmp_path / "one").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert len(list(out.iterdir())) == 4


@linux
def test_a_batch_that_is_killed_goes_on(tmp_path: Path, out: Path, cluster: str) -> None:
    folder = photos(tmp_path / "in", COUNT, side=128)
    with Renames(out) as renames:
        process = started(folder, out, ["--address", cluster])
        actors = killed(process, os.getpid())
        assert actors
        assert running_after(5, actors) == []
        done = renames.names()
        assert 1 <= len(done) < COUNT
        words = [str(folder), "-o", str(out), *OPTIONS, "--engine", "ray", "--workers", "1"]
        assert cli.main(["batch", *words, "--resume"]) == 0
        assert sorted(done + renames.names()) == NAMES
    check_all_whole(out)


@linux
@pytest.mark.usefixtures("cluster")
def test_a_batch_whose_actors_are_killed_goes_on(tmp_path: Path, out: Path) -> None:
    """One that dies from outside, and a picture that kills every actor."""

    class Deadly(Actor):  # here, so that it travels by value
        def __init__(self, settings: Settings, begin: Callable[[str], int]) -> None:
            super().__init__(settings, begin)
            worker = self._worker
            assert callable(worker)

            def work(job: Job) -> Done | Failure:
                if job.source.name == "3.png":
                    os._exit(1)
                done = worker(job)
                if job.source.name == "5.png" and begin("5.png, written") == 1:
                    os._exit(1)
                return done

            self._worker = work

    todo = jobs(photos(tmp_path / "in", 8), out)
    with Renames(out) as renames, pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_ray, "Actor", Deadly)
        outcomes = list(run_ray(todo, SETTINGS, count=2, address=None))
        (failed,) = [each for each in outcomes if isinstance(each, Failure)]
        assert failed.job.source.name == "3.png"
        assert "actors died at it" in str(failed.error)
        assert len(outcomes) == 8
        notes = {e.job.source.name: e.notes for e in outcomes if isinstance(e, Done) and e.notes}
        assert list(notes) == ["5.png"]
        assert sorted(renames.names()) == sorted(f"{n}.png" for n in range(8) if n != 3)


@linux
@pytest.mark.usefixtures("home")
def test_actors_of_a_cluster_of_ones_own_end_with_the_batch(tmp_path: Path, out: Path) -> None:
    pytest.importorskip("ray.data", reason="needs Ray Data")
    folder = photos(tmp_path / "in", COUNT, side=128)
    with Renames(out) as renames:
        process = started(folder, out, ["--address", "local"])
        actors = killed(process, process.pid)
        assert actors
        assert running_after(2, actors) == []
        done = renames.names()
        assert 1 <= len(done) < COUNT
        words = [str(folder), "-o", str(out), *OPTIONS, "--workers", "1", "--resume"]
        assert cli.main(["batch", *words]) == 0
        assert sorted(done + renames.names()) == NAMES
    check_all_whole(out)


@pytest.mark.parametrize("maps", [False, True])
def test_a_picture_is_done_once(tmp_path: Path, out: Path, maps: bool) -> None:
    (job,) = jobs(photos(tmp_path / "in", 1), out, maps=maps)
    actor = Actor(SETTINGS, lambda _: 1)
    job.target.write_bytes(b"of an earlier batch")
    row = batch_ray._row(job)
    first = batch_ray._outcome(actor(row))
    assert isinstance(first, Done)
    made = [path.stat().st_ino for path in job.outputs()]
    again = batch_ray._outcome(actor(row))
    assert [path.stat().st_ino for path in job.outputs()] == made
    assert isinstance(again, Done)
    assert (again.width, again.height) == (first.width, first.height) == (48, 48)
    assert "died before it could tell" in again.notes[0]


def test_a_picture_is_not_tried_for_ever(tmp_path: Path, out: Path) -> None:
    (job,) = jobs(photos(tmp_path / "in", 1), out)
    told = batch_ray._outcome(Actor(SETTINGS, lambda _: 3)(batch_ray._row(job)))
    assert isinstance(told, Failure)
    assert isinstance(told.error, BackendError)
    assert not job.target.exists()


def test_what_ray_tells_is_not_among_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    with redirect_stdout(batch_ray._Own(sys.stdout)):  # type: ignore[type-var]
        thread = threading.Thread(target=print, args=("a node is lost",), name="ray_listen_errors")
        thread.start()
        thread.join()
        print("a result", flush=True)
    told = capsys.readouterr()
    assert told.out == "a result\n"
    assert told.err == "a node is lost\n"


def test_errors_come_back_as_what_they_are(tmp_path: Path, out: Path) -> None:
    (job,) = jobs(photos(tmp_path / "in", 1), out)
    told = batch_ray._outcome(
        Actor(replace(SETTINGS, max_pixels=1000), lambda _: 1)(batch_ray._row(job))
    )
    assert isinstance(told, Failure)
    assert type(told.error) is LimitError
    unloaded = Actor(replace(SETTINGS, model="didanot"), lambda _: 1)
    with pytest.raises(UnknownModelError, match="did you mean"):
        batch_ray._outcome(unloaded(batch_ray._row(job)))


@pytest.mark.parametrize(
    ("nodes", "backend", "asked", "expected"),
    [
        ([(16, 0)], "auto", 0, (12, 1, {"num_cpus": 1})),  # one for each of the jobs
        ([(99, 0)], "auto", 0, (12, 8, {"num_cpus": 8})),
        ([(16, 8), (16, 8)], "auto", 0, (12, 2, {"num_gpus": 1})),
        ([(2, 0)], "auto", 0, (2, 1, {"num_cpus": 1})),
        ([(8, 0)], "auto", 2, (2, 4, {"num_cpus": 4})),
        ([(2, 0)], "auto", 5, (5, 1, {"num_cpus": 1 / 3})),
        ([(8, 0), (8, 0)], "auto", 1, (1, 8, {"num_cpus": 8})),
        ([(8, 0), (8, 0)], "auto", 3, (3, 4, {"num_cpus": 4})),
        ([(16, 2), (16, 2)], "auto", 0, (4, 8, {"num_gpus": 1})),
        ([(16, 2), (16, 2)], "auto", 3, (3, 10, {"num_gpus": 1})),
        ([(16, 2)], "auto", 3, (3, 5, {"num_gpus": 1 / 2})),
        ([(8, 2)], "cpu", 0, (8, 1, {"num_cpus": 1})),
        ([(8, 2)], "openvino", 0, (8, 1, {"num_cpus": 1})),
    ],
)
def test_actors_find_a_place(
    nodes: Sequence[tuple[int, int]], backend: str, asked: int, expected: tuple[int, int, Any]
) -> None:
    resources = [{"CPU": float(cpus), "GPU": float(gpus)} for cpus, gpus in nodes]
    settings = replace(SETTINGS, backend=backend, threads=0)
    count, each, share = places(resources, settings, asked, 12)
    assert (count, each.threads, share) == expected


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path, out: Path) -> None:
    pytest.importorskip("ray.data", reason="needs Ray Data")
    todo = jobs(photos(tmp_path / "in", 1), out)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:none"):
        with pytest.raises(BackendError, match=f"no Ray cluster at {address}: .*--address"):
            next(run_ray(todo, SETTINGS, count=1, address=address))


def test_without_ray(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    todo = jobs(photos(tmp_path / "in", 1), out)
    with pytest.raises(BackendError, match=r"--engine ray needs Ray .*allfocus\[ray\]"):
        next(run_ray(todo, SETTINGS, count=1, address=None))
