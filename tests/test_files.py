"""A published file is whole or not there, whatever interrupts the writing."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.files import publish, remove_drafts


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path: Path, error: BaseException) -> None:
    with publish(path) as temporary:
        temporary.write_text("half")
        raise error


def write_to_full_disk(path: Path) -> None:
    with publish(path) as temporary, Path("/dev/full").open("w") as full:
        temporary.write_text("half")
        full.write("more")


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.engine"
    with publish(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # the same disk: renaming is one step
        assert temporary.suffix == ".engine"
    assert path.read_bytes() == b"whole"
    assert listing(path.parent) == ["x.engine"]


def test_a_former_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with publish(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(1)])
@pytest.mark.parametrize("former", [True, False])
def test_an_error_leaves_nothing(tmp_path: Path, error: BaseException, former: bool) -> None:
    path = tmp_path / "x.engine"
    if former:
        path.write_text("old")
    with pytest.raises(type(error)):
        write_half(path, error)
    assert listing(tmp_path) == (["x.engine"] if former else [])
    assert not former or path.read_text() == "old"


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.engine"
    with pytest.raises(AllfocusError, match=r"x\.engine: No space.*--out"):
        write_half(path, OSError(errno.ENOSPC, "No space left on device"))
    assert listing(tmp_path) == []


def test_a_full_disk_at_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(AllfocusError, match="cannot write"), publish(tmp_path / "x") as temporary:
        temporary.write_text("whole")
    assert listing(tmp_path) == []


def forced(monkeypatch: pytest.MonkeyPatch, failing: str = "") -> list[str]:
    """What is forced to the disk and renamed, in order; the disk does not take `failing`."""
    order: list[str] = []
    replace, sync = Path.replace, os.fsync

    def synced(handle: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        if order[-1] == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(handle)

    def renamed(path: Path, target: Path) -> Path:
        order.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    return order


@pytest.mark.skipif(os.name != "posix", reason="only POSIX can force a folder to the disk")
def test_what_must_last_is_forced_to_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = forced(monkeypatch)
    with publish(tmp_path / "x", durable=True):
        pass
    assert order == ["file", "rename", "folder"]
    with publish(tmp_path / "x"):
        pass
    assert order[3:] == ["rename"]  # each of many pictures would wait for the disk


def test_a_disk_that_tells_late_that_it_is_full_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x").write_text("old")
    forced(monkeypatch, "file")
    with (
        pytest.raises(AllfocusError, match=r"cannot write .*x: No space left.*--out"),
        publish(tmp_path / "x", durable=True) as temporary,
    ):
        temporary.write_text("new")
    assert (listing(tmp_path), (tmp_path / "x").read_text()) == (["x"], "old")


def test_a_folder_that_cannot_be_forced_to_the_disk_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced(monkeypatch, "folder")
    with publish(tmp_path / "x", durable=True) as temporary:
        temporary.write_text("new")
    assert (listing(tmp_path), (tmp_path / "x").read_text()) == (["x"], "new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full (Linux)")
def test_a_device_that_is_really_full(tmp_path: Path) -> None:
    with pytest.raises(AllfocusError, match="No space left"):
        write_to_full_disk(tmp_path / "x")
    assert listing(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(AllfocusError, match=r"cannot write .*the name is right, or .*--out"),
        publish(tmp_path / "file" / "x.engine"),
    ):
        pytest.fail("nothing may be written")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AllfocusError, match="Permission denied"), publish(tmp_path / "x"):
        pytest.fail("nothing may be written")


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(AllfocusError, match="cannot write"), publish(tmp_path / "x") as temporary:
        temporary.write_text("whole")
    assert listing(tmp_path) == ["x"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX file modes")
@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space there"),
        (errno.EDQUOT, "free some space there"),
        (errno.EACCES, "make the place writable for yourself"),
        (errno.EROFS, "make the place writable for yourself"),
        (errno.ENAMETOOLONG, "see that the name is right"),
    ],
)
def test_the_advice_fits_the_cause(tmp_path: Path, number: int, advice: str) -> None:
    with pytest.raises(AllfocusError, match=f"{advice}, or choose another place with --out"):
        write_half(tmp_path / "x", OSError(number, os.strerror(number)))


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        with publish(tmp_path / "x"):
            pass
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_the_umask_of_all_threads_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that changed it at once could each take the other's for its own, and leave that."""

    def change(_: int) -> int:
        raise AssertionError("changed")

    monkeypatch.setattr(os, "umask", change)
    with publish(tmp_path / "x"):
        pass
    assert listing(tmp_path) == ["x"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX file modes")
def test_a_writer_that_makes_private_files_changes_nothing(tmp_path: Path) -> None:
    """safetensors writes a private file of its own and renames it."""
    with publish(tmp_path / "x") as temporary:
        temporary.unlink()
        temporary.touch(mode=0o600)
    (tmp_path / "plain").touch()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("x", "plain")}
    assert len(modes) == 1


def killed(path: Path) -> Path:
    """The draft that a `publish` of `path` leaves when its process is killed."""
    with publish(path) as temporary:
        pass
    path.unlink()
    temporary.write_text("half")
    return temporary


_STEMS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40)
_NAMES = st.tuples(_STEMS, st.sampled_from([".jpg", ".png", ".tif"])).map("".join)


@given(_NAMES, _NAMES)
def test_drafts_of_a_killed_process_are_removed_and_nothing_else(name: str, other: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        draft = killed(path)
        kept = {path.with_name(f".{path.stem}-{word}{path.suffix}") for word in ("original", "1")}
        if other != name:
            kept.add(killed(path.with_name(other)))
        for each in kept:
            each.touch()
        remove_drafts([path])
        assert not draft.exists()
        assert set(path.parent.iterdir()) == kept


@pytest.mark.parametrize("stem", ["n" * 251, "字" * 83, "é" * 120 + "n" * 11])
def test_the_longest_names_are_written_and_their_drafts_known(tmp_path: Path, stem: str) -> None:
    path, other = tmp_path / f"{stem}.png", tmp_path / f"{stem[:-1]}m.png"
    with publish(path) as temporary:
        temporary.write_text("whole")
        assert len(os.fsencode(temporary.name)) <= 255
    assert path.read_text() == "whole"
    drafts = killed(path), killed(other)
    remove_drafts([path])
    assert [draft.exists() for draft in drafts] == [False, True]


def test_drafts_in_a_folder_that_is_not_there_are_none(tmp_path: Path) -> None:
    remove_drafts([tmp_path / "none" / "a.png"])


def test_a_draft_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    draft = killed(tmp_path / "a.png")
    draft.unlink()
    draft.mkdir()
    with pytest.raises(AllfocusError, match=r"cannot remove half-written files from .*--out"):
        remove_drafts([tmp_path / "a.png"])
