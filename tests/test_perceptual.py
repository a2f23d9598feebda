"""LPIPS only where everything for it is installed, and the reason where it is not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from allfocus.benchmarks.perceptual import open_lpips


def test_without_the_package_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    distance, why = open_lpips()
    assert distance is None
    assert why.startswith("no LPIPS: ")


def test_nothing_is_downloaded_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    distance, why = open_lpips()
    assert distance is None
    assert str(tmp_path) in why


def test_it_is_given_planes_of_minus_one_to_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    given: list[Any] = []

    class Net:
        def eval(self) -> Net:
            return self

        def __call__(self, first: Any, second: Any) -> Any:
            given.extend((first, second))
            return torch.full((1, 1, 1, 1), 0.25)

    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=lambda **_: Net()))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    distance, why = open_lpips()
    assert distance is not None
    assert why == ""
    image = np.zeros((4, 6, 3), np.float32)
    image[..., 2] = 1
    assert distance(image, image) == 0.25
    assert given[0].shape == (1, 3, 4, 6)
    assert [float(plane.mean()) for plane in given[0][0]] == [-1, -1, 1]
