"""Asking the NVIDIA driver: with a pretended driver everywhere, with the real one on a GPU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from allfocus.runtime import gpu
from allfocus.runtime.gpu import Gpu, find_gpus

INVALID_DEVICE = 101


class Driver:
    """Stands for libcuda: fills in what its arguments point to, and answers with a CUDA error."""

    def __init__(self, names: list[str], failing: str = "") -> None:
        self.names = names
        self.failing = failing

    def __getattr__(self, function: str) -> Any:
        if not function.startswith("cu"):
            raise AttributeError(function)

        def call(*arguments: Any) -> int:
            if function == self.failing:
                return INVALID_DEVICE
            return getattr(self, f"answer_{function}")(*arguments) or 0

        return call

    def answer_cuInit(self, flags: int) -> None:  # noqa: N802
        assert flags == 0

    def answer_cuCtxGetCurrent(self, out: Any) -> None:  # noqa: N802
        out._obj.value = 1 if self.names else None

    def answer_cuDriverGetVersion(self, out: Any) -> None:  # noqa: N802
        out._obj.value = 12090

    def answer_cuDeviceGetCount(self, out: Any) -> None:  # noqa: N802
        out._obj.value = len(self.names)

    def answer_cuDeviceGet(self, out: Any, index: int) -> None:  # noqa: N802
        out._obj.value = 70 + index

    def answer_cuDeviceGetName(self, buffer: Any, length: int, device: int) -> None:  # noqa: N802
        buffer.value = self.names[device - 70].encode()[: length - 1]

    def answer_cuDeviceTotalMem_v2(self, out: Any, device: int) -> None:  # noqa: N802
        out._obj.value = device << 30

    def answer_cuDeviceGetAttribute(self, out: Any, kind: int, device: int) -> None:  # noqa: N802
        out._obj.value = {75: 8, 76: device - 70}[kind]


def pretend(monkeypatch: pytest.MonkeyPatch, driver: Driver, tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23\n")
    monkeypatch.setattr(gpu, "_load_library", lambda: driver)
    monkeypatch.setattr(gpu, "_DRIVER_VERSION", version)


def test_gpus_are_described(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, Driver(["RTX A", "RTX B"]), tmp_path)
    found = find_gpus()
    assert found.devices == (Gpu(0, "RTX A", "sm80", 70 << 30), Gpu(1, "RTX B", "sm81", 71 << 30))
    assert (found.cuda, found.driver, found.reason) == ("12.9", "580.95.05", "")


def test_whether_a_thread_works_with_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for driver, expected in (
        (Driver(["RTX A"]), True),
        (Driver([]), False),
        (Driver(["RTX A"], "cuCtxGetCurrent"), False),  # CUDA was not started
    ):
        pretend(monkeypatch, driver, tmp_path)
        assert gpu.thread_has_context() is expected

    def missing() -> None:
        raise OSError

    monkeypatch.setattr(gpu, "_load_library", missing)
    assert not gpu.thread_has_context()


def test_a_driver_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pretend(monkeypatch, Driver([]), tmp_path)
    assert find_gpus().reason == "the NVIDIA driver lists no GPU"


@pytest.mark.parametrize(
    "function", ["cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGetName"]
)
def test_a_failing_driver_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: str
) -> None:
    pretend(monkeypatch, Driver(["RTX A"], failing=function), tmp_path)
    found = find_gpus()
    assert found.devices == ()
    assert f"{function}: CUDA error {INVALID_DEVICE}" in found.reason


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise OSError("not found")

    monkeypatch.setattr(gpu, "_load_library", missing)
    found = find_gpus()
    assert found.devices == ()
    assert found.driver is None
    assert "no NVIDIA driver" in found.reason


def test_a_driver_that_publishes_no_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, Driver(["RTX A"]), tmp_path)
    monkeypatch.setattr(gpu, "_DRIVER_VERSION", tmp_path / "none")
    assert find_gpus().driver is None
    assert find_gpus().devices


@pytest.mark.gpu
def test_the_real_driver() -> None:
    found = find_gpus()
    if not found.devices:
        pytest.skip(found.reason)
    for device in found.devices:
        assert device.name
        assert re.fullmatch(r"sm\d{2,3}", device.target)
        assert device.memory_bytes > 1 << 30
