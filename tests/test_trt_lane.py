"""One lane's contexts: which shape has which, what they cost, and in what order all of it goes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from engine_files import engine_file
from fake_cuda import Error, FakeCuda, out_of_memory
from fake_trt import FakeTrt

from allfocus.runtime.cudart import Device, Stream
from allfocus.runtime.errors import BackendError
from allfocus.runtime.manifest import read_manifest
from allfocus.runtime.trt_engine import LoadedEngine
from allfocus.runtime.trt_lane import Lane
from allfocus.runtime.trt_runner import Capturing, Runner

A, B, C, D, E = ((1, 4 * (1 + i), 8, 3) for i in range(5))  # one larger than the other


class Bench:
    """A lane on a stand-in GPU."""

    def __init__(self, folder: Path, most: int) -> None:
        self.cuda = FakeCuda()
        self.trt = FakeTrt(self.cuda)
        path = engine_file(folder)
        self.loaded = LoadedEngine(path, read_manifest(path), self.trt)
        self.capturing = Capturing(True)
        device = Device(self.cuda, 0)
        device.use()
        self.lane = Lane(device, self.make, most)
        self.value = 0

    def make(self, stream: Stream) -> Runner:
        return Runner(self.loaded, self.loaded.create_context(), stream, self.capturing)

    def frames(self, *shapes: tuple[int, ...]) -> list[str]:
        """Frames of these shapes, each of another grey value and checked; what TensorRT did."""
        self.trt.events.clear()
        for shape in shapes:
            self.value += 1
            runner = self.lane.prepare({"image": shape})
            self.lane.upload("image", np.full(shape, self.value, np.uint8))
            runner.run()
            sharp = self.lane.download("sharp", np.dtype(np.uint8))
            self.lane.stream.synchronize()
            assert sharp.shape == shape
            assert (sharp == 255 - self.value).all()
        return [event for event in self.trt.events if event != "ran"]

    def graphs(self) -> int:
        return self.cuda.left()["graphs"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, 4)


def test_one_shape_takes_one_context_and_its_buffers(bench: Bench) -> None:
    assert bench.trt.events.count("context") == 1  # which loading the engine makes
    assert bench.frames(A, A, A, A) == ["enqueued", "recorded"]
    assert bench.cuda.left() == {"blocks": 5, "streams": 1, "events": 0, "graphs": 1}


def test_shapes_that_take_turns_are_all_replayed(bench: Bench) -> None:
    assert bench.frames(A, B, C, A, B, C).count("context") == 2
    bench.frames(A, B, C, A, B, C)
    assert bench.frames(*(A, B, C) * 5) == []  # graphs alone
    assert bench.graphs() == 3


def test_a_shape_that_comes_once_takes_no_more_memory(bench: Bench) -> None:
    """The golden frame before all others, and an odd one between them."""
    bench.frames(E)
    blocks = bench.cuda.left()["blocks"]
    assert "context" not in bench.frames(A, A, A)
    assert bench.frames(A, A) == []
    assert bench.cuda.left()["blocks"] == blocks
    assert "context" not in bench.frames(B)


def test_the_shape_not_used_for_the_longest_gives_up_its_context(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 2)
    bench.frames(B, A, B, A, B, A, B, A)  # both replayed; A was the last
    bench.cuda.calls.clear()
    assert "context" not in bench.frames(C)
    freed = [c for c in bench.cuda.calls if c in ("cudaGraphExecDestroy", "cudaFree", "cudaMalloc")]
    assert freed == ["cudaGraphExecDestroy", *["cudaFree", "cudaMalloc"] * 3]
    assert bench.frames(A, A) == []  # untouched
    assert "enqueued" in bench.frames(B)
    assert bench.graphs() == 1


def test_there_are_no_more_contexts_than_allowed(bench: Bench) -> None:
    events = [event for _ in range(6) for event in bench.frames(A, B, C, D, E)]
    assert events.count("context") == 3  # beside the first
    assert bench.frames(E, E, E)[-1:] == ["recorded"]


@pytest.mark.parametrize("what", ["context", "buffers"])
def test_without_room_for_another_context_the_shapes_share(
    bench: Bench, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench.frames(B, A)
    if what == "context":
        bench.trt.fail.add("context")
    else:
        out_of_memory(bench.cuda)
    with caplog.at_level(logging.INFO, "allfocus"):
        bench.frames(B, A, B, A)
        bench.trt.fail.clear()
        bench.cuda.failures.clear()
        assert "context" not in bench.frames(B, A, B, A)  # not tried again
    assert caplog.text.count("frame sizes share 1 contexts: no room for another") == 1
    assert bench.cuda.left() == {"blocks": 5, "streams": 1, "events": 0, "graphs": 0}
    assert bench.frames(A, A, A)[-1:] == ["recorded"]


def test_a_shape_that_is_refused_spoils_nothing(bench: Bench) -> None:
    bench.frames(A, B, A, B, A, B)
    with pytest.raises(BackendError, match=r"refuses an input .*profile"):
        bench.lane.prepare({"image": (1, 68, 4, 3)})
    bench.frames(A, B, A, B)
    assert bench.frames(A, B, A, B) == []


def test_a_capture_that_fails_is_told_once_for_all_contexts(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.trt.capturable = False
    bench.frames(*(A, B) * 4)
    assert caplog.text.count("CUDA graph not captured") == 1


def test_closing_gives_everything_back_and_the_stream_last(bench: Bench) -> None:
    bench.frames(*(A, B) * 4)
    bench.trt.events.clear()
    bench.cuda.calls.clear()
    bench.lane.close()
    assert bench.trt.events == ["context gone"] * 2
    assert set(bench.cuda.left().values()) == {0}
    assert bench.cuda.calls[-1] == "cudaStreamDestroy"


def test_a_lane_that_cannot_be_made_leaves_no_stream(bench: Bench) -> None:
    bench.trt.fail.add("context")
    with pytest.raises(BackendError, match=r"make room .*OutOfMemory.*fewer streams"):
        Lane(bench.lane.stream.device, bench.make)
    assert bench.cuda.left()["streams"] == 1
    bench.cuda.failures["cudaStreamCreateWithFlags"] = Error.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match="cudaStreamCreateWithFlags"):
        Lane(bench.lane.stream.device, bench.make)
