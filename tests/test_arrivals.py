"""What a look finds, and when it counts as whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.arrivals import Arrivals, can_be_read, identity_of, look
from allfocus.runtime.ledger import Identity


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def found(root: Path, out: str = "out", recursive: bool = True) -> list[str]:
    def fail(folder: Path, error: OSError) -> None:
        raise AssertionError(f"{folder}: {error}")

    return sorted(look(root, root / out, recursive=recursive, trouble=fail))


def test_pictures_by_their_names_below_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.JPG", "sub/deep/c.tif", "notes.txt", "d.png.part", "out/e.png")
    assert found(tmp_path) == ["a.png", "b.JPG", "sub/deep/c.tif"]
    assert found(tmp_path, recursive=False) == ["a.png", "b.JPG"]
    assert found(tmp_path, out="sub/deep") == ["a.png", "b.JPG", "out/e.png"]


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
def test_hidden_files_and_links_to_folders_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, ".a.png", ".hidden/b.png", "sub/c.png")
    (tmp_path / "again").symlink_to("sub")
    (tmp_path / "linked.png").symlink_to("sub/c.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    assert found(tmp_path) == ["linked.png", "sub/c.png"]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        found(tmp_path / "gone")


def test_a_folder_below_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "locked/b.png", "vanished/c.png")
    errors = {"locked": errno.EACCES, "vanished": errno.ENOENT}
    real, told = os.scandir, []

    def scandir(path: str) -> object:
        code = errors.get(Path(path).name)
        if code is not None:
            raise OSError(code, os.strerror(code))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    seen = look(
        tmp_path,
        tmp_path / "out",
        recursive=True,
        trouble=lambda folder, error: told.append((folder, error.errno)),
    )
    assert list(seen) == ["a.png"]
    assert told == [(tmp_path / "locked", errno.EACCES)]


def test_an_identity_is_that_of_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    status = (tmp_path / "a.png").stat()
    assert identity_of(tmp_path / "a.png") == Identity(5, status.st_mtime_ns)
    assert identity_of(tmp_path) is None
    assert identity_of(tmp_path / "gone.png") is None


def test_what_can_be_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    assert can_be_read(tmp_path / "a.png")
    assert not can_be_read(tmp_path / "gone.png")
    assert not can_be_read(tmp_path)


NAMES, VERSIONS = ("a", "b", "c"), st.sampled_from([None, 1, 2])
LOOKS = st.lists(
    st.tuples(st.floats(0.1, 3), st.floats(0, 1), st.tuples(VERSIONS, VERSIONS, VERSIONS)),
    max_size=30,
)


@given(looks=LOOKS, settle=st.sampled_from([0.0, 1.0, 2.5]))
def test_a_picture_is_taken_once_for_each_time_that_it_settles(
    looks: list[tuple[float, float, tuple[int | None, ...]]], settle: float
) -> None:
    """Against the plain rule: seen alike in every look for `settle` seconds, and not yet done."""
    finished: dict[str, Identity] = {}
    arrivals, now = Arrivals(finished, settle), 0.0
    since: dict[str, tuple[int | None, float]] = dict.fromkeys(NAMES, (None, 0.0))
    for pause, took, versions in looks:
        began, ended = now + pause, now + pause + took
        now = ended
        there = {n: Identity(v, v) for n, v in zip(NAMES, versions, strict=True) if v}
        arrivals.see(there, began, ended)
        expected = []
        for name, version in zip(NAMES, versions, strict=True):
            was = finished.get(name)
            if since[name][0] != version:
                since[name] = (version, ended if settle else began)
            is_new = version is not None and was != Identity(version, version)
            if is_new and began - since[name][1] >= settle:
                expected.append(name)
        taken = []
        while (each := arrivals.next()) is not None:
            taken.append(each[0])
            finished[each[0]] = each[1]
        assert taken == expected
        assert arrivals.expected(now) == bool(len(arrivals))
