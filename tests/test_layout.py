"""The list of packages in pyproject.toml and the folders agree; a gap breaks only the wheel."""

from __future__ import annotations

from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no TOML reader")

ROOT = Path(__file__).parent.parent
ROOMS = ("train", "export", "runtime", "kernels", "benchmarks")


def settings() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        loaded: dict[str, object] = tomllib.load(file)["tool"]["setuptools"]
    return loaded


def test_every_folder_with_code_is_packaged() -> None:
    folders = {p.parent for room in ROOMS for p in (ROOT / room).rglob("*.py")}
    public = ROOT / "runtime" / "allfocus"
    expected = {"allfocus"} | {
        ".".join(("allfocus", *folder.relative_to(ROOT).parts)) for folder in folders - {public}
    }
    assert set(settings()["packages"]) == expected  # type: ignore[call-overload]


def test_package_dirs_exist() -> None:
    places = settings()["package-dir"]
    assert isinstance(places, dict)
    for place in places.values():
        assert (ROOT / place / "__init__.py").is_file()


def test_version_is_one() -> None:
    import allfocus

    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == allfocus.__version__
