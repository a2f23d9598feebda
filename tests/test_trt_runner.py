from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from engine_files import engine_file
from fake_cuda import FakeCuda, out_of_memory
from fake_trt import FakeTrt

from allfocus.runtime.cudart import Device, Stream
from allfocus.runtime.errors import BackendError
from allfocus.runtime.manifest import read_manifest
from allfocus.runtime.trt_engine import LoadedEngine
from allfocus.runtime.trt_runner import Capturing, Runner

SMALL, LARGE = (1, 8, 8, 3), (1, 16, 12, 3)


class Bench:
    """A runner on a stand-in GPU, with the picture and the result at hand."""

    def __init__(self, folder: Path, *, captures: bool = True) -> None:
        self.cuda = FakeCuda()
        self.trt = FakeTrt(self.cuda)
        path = engine_file(folder)
        loaded = LoadedEngine(path, read_manifest(path), self.trt)
        self.stream = Stream(Device(self.cuda, 0))
        context = loaded.engine.create_execution_context()
        self.capturing = Capturing(captures)
        self.runner = Runner(loaded, context, self.stream, self.capturing)
        self.events = self.trt.events
        self.events.clear()

    def frame(self, shape: tuple[int, ...], value: int) -> None:
        """Run one frame of one grey value and check what comes out."""
        self.runner.prepare({"image": shape})
        image = np.full(shape, value, np.uint8)
        self.stream.copy(self.runner.address("image"), image.ctypes.data, image.nbytes)
        self.runner.run()
        self.stream.synchronize()
        sharp = self.cuda.get(self.runner.address("sharp"), shape, np.uint8)
        defocus = self.cuda.get(self.runner.address("defocus"), shape[:3], np.float32)
        assert (sharp == 255 - value).all()
        assert np.allclose(defocus, value / 255)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_first_frame_runs_plainly_second_is_captured_the_rest_are_launched(bench: Bench) -> None:
    for value in range(4):
        bench.frame(SMALL, value)
    assert bench.events == ["enqueued", "ran", "recorded", "ran", "ran", "ran"]
    assert bench.cuda.calls.count("cudaGraphLaunch") == 3
    assert bench.capturing.on


def test_new_size_gets_a_graph_of_its_own(bench: Bench) -> None:
    for shape in (SMALL, SMALL, LARGE, LARGE, LARGE, SMALL, SMALL):
        bench.frame(shape, 9)
    assert [e for e in bench.events if e != "ran"] == ["enqueued", "recorded"] * 3
    assert bench.cuda.left()["graphs"] == 1  # one at a time


def test_alternating_sizes_run_without_graphs(bench: Bench) -> None:
    for shape in (SMALL, LARGE) * 3:
        bench.frame(shape, 5)
    assert set(bench.events) == {"enqueued", "ran"}


def test_without_capturing_every_frame_is_enqueued(tmp_path: Path) -> None:
    bench = Bench(tmp_path, captures=False)
    for value in range(3):
        bench.frame(SMALL, value)
    assert bench.events == ["enqueued", "ran"] * 3


def test_engine_that_cannot_be_captured_runs_without_and_says_so_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.trt.capturable = False
    with caplog.at_level(logging.WARNING, "allfocus"):
        for shape in (SMALL, SMALL, SMALL, LARGE, LARGE):
            bench.frame(shape, 3)
    warned = [r.getMessage() for r in caplog.records if "CUDA graph" in r.getMessage()]
    assert len(warned) == 1
    assert "not permitted when stream is capturing" in warned[0]
    assert not bench.capturing.on
    assert bench.cuda.left()["graphs"] == 0


def test_buffers_are_kept_and_only_grow(bench: Bench) -> None:
    bench.frame(LARGE, 1)
    allocated = bench.cuda.calls.count("cudaMalloc")
    first = bench.runner.address("image")
    bench.frame(SMALL, 2)
    bench.frame(LARGE, 3)
    assert (bench.runner.address("image"), allocated) == (first, 3)
    assert bench.cuda.calls.count("cudaMalloc") == 3
    bench.frame((1, 64, 64, 3), 4)
    assert bench.cuda.calls.count("cudaMalloc") == 6
    assert bench.cuda.left()["blocks"] == 3
    memory = [call for call in bench.cuda.calls if call in ("cudaMalloc", "cudaFree")]
    assert memory[3:] == ["cudaFree", "cudaMalloc"] * 3  # never both at once


def test_size_out_of_the_profile_is_refused_and_others_still_run(bench: Bench) -> None:
    with pytest.raises(BackendError, match=r"refuses .*image.* \(1, 68, 4, 3\): .*profile"):
        bench.runner.prepare({"image": (1, 68, 4, 3)})
    bench.frame(SMALL, 7)


@pytest.mark.parametrize("what", ["shape", "address"])
def test_refusals_are_told_and_do_not_last(bench: Bench, what: str) -> None:
    bench.trt.fail.add(what)
    with pytest.raises(BackendError, match=r"left the shape|not aligned"):
        bench.runner.prepare({"image": SMALL})
    bench.trt.fail.clear()
    bench.frame(SMALL, 7)


def test_out_of_memory_does_not_last(bench: Bench) -> None:
    bench.frame(SMALL, 1)
    out_of_memory(bench.cuda)
    with pytest.raises(BackendError, match="cudaErrorMemoryAllocation"):
        bench.runner.prepare({"image": LARGE})
    bench.cuda.failures.clear()
    bench.frame(SMALL, 2)  # although it is the last size that worked
    bench.frame(LARGE, 3)


def test_failed_execution_quotes_the_log(bench: Bench) -> None:
    bench.runner.prepare({"image": SMALL})
    bench.trt.fail.add("execute")
    with pytest.raises(BackendError, match="cannot run the engine: illegal memory access"):
        bench.runner.run()


def test_close_gives_everything_back(bench: Bench) -> None:
    for _ in range(3):
        bench.frame(SMALL, 1)
    bench.runner.close()
    assert bench.events[-1] == "context gone"
    assert bench.cuda.left() == {"blocks": 0, "streams": 1, "events": 0, "graphs": 0}
