"""The lock between processes: one holder at a time, whatever happens to the file."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from allfocus.runtime import lock
from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.lock import locked

COUNT = """
import sys, time
from pathlib import Path
from allfocus.runtime.lock import locked
lock, counter = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(20):
    with locked(lock, lambda: None):
        number = int(counter.read_text())
        time.sleep(0.002)
        counter.write_text(str(number + 1))
"""


def nobody() -> None:
    raise AssertionError("nobody else holds this lock")


def test_the_file_is_there_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "new" / ".lock"
    with locked(path, nobody):
        assert path.exists()
    assert not list(path.parent.iterdir())


def test_an_error_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / ".lock", nobody):
        raise KeyboardInterrupt
    with locked(tmp_path / ".lock", nobody):
        assert (tmp_path / ".lock").exists()


def test_what_a_dead_process_left_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"")
    with locked(tmp_path / ".lock", nobody):
        assert (tmp_path / ".lock").exists()


def test_a_second_one_waits_and_says_so_once(tmp_path: Path) -> None:
    path, told, order = tmp_path / ".lock", [], []

    def second() -> None:
        with locked(path, lambda: told.append(1)):
            order.append("second")

    thread = Thread(target=second)
    with locked(path, nobody):
        thread.start()
        sleep(0.7)
        order.append("first")
    thread.join(timeout=20)
    assert (order, told) == (["first", "second"], [1])


def test_processes_take_turns(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / ".lock"), str(counter)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert counter.read_text() == "60"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(AllfocusError, match=r"cannot write to .*--out, or set ALLFOCUS_CACHE$"),
        locked(tmp_path / "file" / "under" / ".lock", nobody),
    ):
        pass
    with (
        pytest.raises(AllfocusError, match=r"cannot write to .*under: Not a directory; go away$"),
        locked(tmp_path / "file" / "under" / ".lock", nobody, advice="go away"),
    ):
        pass


def test_storage_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_try_lock", refused)
    with (
        pytest.raises(AllfocusError, match=r"cannot lock .*No locks available; .* or go away$"),
        locked(tmp_path / ".lock", nobody, advice="go away"),
    ):
        pass
