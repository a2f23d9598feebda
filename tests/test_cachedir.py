"""Where the cache is."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.errors import UsageError


def test_its_own_variable_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("ALLFOCUS_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_a_relative_folder_is_made_absolute(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALLFOCUS_CACHE", "here")
    assert cache_dir() == tmp_path / "here"


def test_then_the_desktops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALLFOCUS_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "allfocus"


@pytest.mark.parametrize("other", ["", "relative/folder", None])
def test_then_the_home_folder(monkeypatch: pytest.MonkeyPatch, other: str | None) -> None:
    monkeypatch.delenv("ALLFOCUS_CACHE")
    if other is None:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", other)
    assert cache_dir() == Path.home() / ".cache" / "allfocus"


@pytest.fixture
def without_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """As in a container whose user nobody knows; its folder among the temporary ones."""
    for name in ("ALLFOCUS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"allfocus-{os.getuid()}"


def test_without_a_home_there_is_a_folder_of_the_users_own(without_home: Path) -> None:
    assert cache_dir() == without_home
    assert without_home.stat().st_mode & 0o777 == 0o700
    assert cache_dir() == without_home  # again


def test_a_folder_that_others_may_write_to_is_not_taken(without_home: Path) -> None:
    without_home.mkdir()
    without_home.chmod(0o777)
    with pytest.raises(UsageError, match=r"others may write there; .* set ALLFOCUS_CACHE"):
        cache_dir()


def test_a_link_to_anywhere_is_not_taken(without_home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    without_home.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="set ALLFOCUS_CACHE"):
        cache_dir()
