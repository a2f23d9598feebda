"""Where the cache is."""

from __future__ import annotations

from pathlib import Path

import pytest

from allfocus.runtime.cachedir import cache_dir


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
