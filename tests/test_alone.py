"""One writer of a folder at a time: the second one is told, and waits where it is patient."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from allfocus.runtime.errors import UsageError
from allfocus.train.alone import alone

HOLD = """
import sys
from pathlib import Path
from allfocus.train.alone import alone
with alone(Path(sys.argv[1]), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds `tmp_path` until its input ends."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.stdin.close()


@pytest.mark.usefixtures("holder")
def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    said = rf"--out {tmp_path}: another `allfocus train` writes there; wait for it"
    with pytest.raises(UsageError, match=said), alone(tmp_path, "train"):
        pass
    with alone(tmp_path, "data make-maps"):  # another command's files are others
        pass


def test_a_patient_one_waits_for_what_is_about_to_end(
    holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert holder.stdin is not None
    ending = Timer(0.3, holder.stdin.close)
    ending.start()
    with alone(tmp_path, "train", patience=30):
        assert holder.wait(10) == 0
    ending.join()


def test_a_folder_that_stays_empty_is_not_left(tmp_path: Path) -> None:
    new, kept = tmp_path / "new", tmp_path / "kept"
    kept.mkdir()
    for out in (new, kept):
        with alone(out, "train"):
            assert out.is_dir()
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    with alone(new, "train"):
        (new / "weights").touch()
    assert [p.name for p in new.iterdir()] == ["weights"]
