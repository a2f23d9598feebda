"""Several calls at once on one engine: nothing mixes, fails together, or is left behind."""

from __future__ import annotations

import gc
from pathlib import Path
from threading import Barrier, Event, get_ident
from typing import Any

import fake_cuda
import fake_trt
import numpy as np
import pytest
from at_once import PATIENCE, joined, started
from engine_files import engine_file, picture
from fake_cuda import FakeCuda
from fake_trt import FakeTrt
from gpu_frames import GpuFrame

from allfocus.runtime.backend import Options
from allfocus.runtime.errors import ArtefactError, BackendError, UsageError
from allfocus.runtime.manifest import Flavour
from allfocus.runtime.memory import Allowance
from allfocus.runtime.spec import Size
from allfocus.runtime.trt import TrtBackend
from allfocus.runtime.trt_engine import LoadedEngine
from allfocus.runtime.trt_runner import Runner

FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")
SIZES = (Size(8, 8), Size(12, 8), Size(8, 16))


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch, FakeCuda(devices=2))


@pytest.fixture(autouse=True)
def trt(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeTrt:
    return fake_trt.install(monkeypatch, "tensorrt", cuda, "10.13.2.6")


@pytest.fixture(autouse=True)
def rtx(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeTrt:
    return fake_trt.install(monkeypatch, "tensorrt-rtx", cuda, "10.13.2.6")


def load(folder: Path, flavour: Flavour = "tensorrt", **options: Any) -> TrtBackend:
    return TrtBackend(engine_file(folder, flavour=flavour), Options(**options))


def right(backend: TrtBackend, size: Size, seed: int) -> bool:
    image = picture("frame", size, seed)
    return np.array_equal(backend.infer(image).sharp, 255 - image)


def all_at_once(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let no inference begin before `count` threads have come so far."""
    together, run = Barrier(count), Runner.run

    def meeting(self: Runner) -> None:
        together.wait(PATIENCE)
        run(self)

    monkeypatch.setattr(Runner, "run", meeting)


@pytest.mark.parametrize("streams", [0, -1])
def test_less_than_one_stream_is_refused(streams: int) -> None:
    with pytest.raises(
        UsageError, match=f"streams: expected a whole number of 1 or more, got {streams}"
    ):
        Options(streams=streams)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_engines_share_the_memory_that_is_given(
    tmp_path: Path, cuda: FakeCuda, flavour: Flavour
) -> None:
    """Each stream works in 1 MiB here."""
    memory = Allowance(5 << 20)
    first = load(tmp_path, flavour, streams=3, memory=memory)
    with pytest.raises(BackendError, match=r"in 1 MiB .* memory=5 MiB leaves 2 MiB for 3; give"):
        load(tmp_path, flavour, streams=3, memory=memory)
    load(tmp_path, flavour, streams=2, memory=memory).close()
    first.close()
    assert memory.left == memory.limit
    assert cuda.left() == {"blocks": 0, "streams": 0, "events": 0, "graphs": 0}


@pytest.mark.parametrize(("given", "most"), [(None, 3), (Allowance(9 << 20), 1)])
def test_frame_sizes_share_a_context_where_memory_has_a_limit(
    tmp_path: Path, trt: FakeTrt, given: Allowance | None, most: int
) -> None:
    with load(tmp_path, memory=given) as backend:
        for _ in range(4):
            for size in SIZES:
                assert right(backend, size, 5)
        assert trt.events.count("context") == most


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_as_many_calls_run_at_once_as_there_are_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, flavour: Flavour
) -> None:
    with load(tmp_path, flavour, streams=3) as backend:
        assert cuda.left() == {"blocks": 0, "streams": 3, "events": 0, "graphs": 0}
        all_at_once(monkeypatch, 3)
        found: list[bool] = []
        work = [lambda seed=i: found.append(right(backend, SIZES[0], seed)) for i in range(3)]
        for thread in [started(each) for each in work]:
            joined(thread)
        assert found == [True] * 3
    assert set(cuda.left().values()) == {0}


def test_lanes_that_nobody_needs_take_no_buffers(tmp_path: Path, cuda: FakeCuda) -> None:
    with load(tmp_path, streams=3) as backend:
        for seed in range(4):
            assert right(backend, SIZES[0], seed)
        assert cuda.left()["blocks"] == 6  # three tensors, and their pinned twins


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_frames_of_many_threads_and_sizes_do_not_mix(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt, flavour: Flavour
) -> None:
    backend = load(tmp_path, flavour, streams=3)
    wrong: list[str] = []

    def work(seed: int) -> None:
        for turn in range(12):
            size, number = SIZES[(seed + turn) % 3], 100 * seed + turn
            if not right(backend, size, number):
                wrong.append(f"host {number}")
            image = picture("frame", size, number + 50)
            shared = backend.infer_device(GpuFrame(cuda, image)).sharp
            if not np.array_equal(shared.to_host(), 255 - image):
                wrong.append(f"device {number}")

    for thread in [started(lambda seed=i: work(seed)) for i in range(7)]:
        joined(thread)
    assert wrong == []
    assert backend.calls == 7 * 12 * 2
    if flavour == "tensorrt":
        assert trt.events.count("context") - 1 <= 3 * 3  # one is the engine's
        assert trt.events.count("ran") == backend.calls
        assert cuda.calls.count("cudaGraphLaunch") > backend.calls / 2


def test_sizes_that_take_turns_are_replayed_as_graphs(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(tmp_path)
    for turn in range(12):
        assert right(backend, SIZES[turn % 2], turn)
    cuda.calls.clear()
    for turn in range(6):
        assert right(backend, SIZES[turn % 2], 50 + turn)
    assert cuda.calls.count("cudaGraphLaunch") == 6


def test_without_graphs_one_context_serves_all_sizes(tmp_path: Path, trt: FakeTrt) -> None:
    backend = load(tmp_path, cuda_graph=False)
    made = trt.events.count("context")
    for turn in range(12):
        assert right(backend, SIZES[turn % 3], turn)
    assert trt.events.count("context") == made


def test_a_failure_in_one_lane_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda
) -> None:
    backend = load(tmp_path, streams=2)
    all_at_once(monkeypatch, 2)
    enqueue, failing = Runner._enqueue, []

    def one_fails(self: Runner) -> None:
        if get_ident() in failing:
            raise BackendError("cannot run the engine")
        enqueue(self)

    monkeypatch.setattr(Runner, "_enqueue", one_fails)
    found: list[bool] = []

    def fail() -> None:
        failing.append(get_ident())
        with pytest.raises(BackendError, match="cannot run"):
            right(backend, SIZES[0], 1)
        found.append(True)

    for thread in [started(fail), started(lambda: found.append(right(backend, SIZES[0], 2)))]:
        joined(thread)
    assert found == [True, True]
    assert not any(stream.queue for stream in cuda.streams.values())
    failing.clear()
    again = [started(lambda s=i: found.append(right(backend, SIZES[0], s))) for i in range(2)]
    for thread in again:  # both lanes, for each waits until the other has come
        joined(thread)
    assert found == [True] * 4


def test_closing_waits_for_all_that_run_and_refuses_who_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda
) -> None:
    backend = load(tmp_path, streams=2)
    here, go_on, run = Barrier(3), Event(), Runner.run

    def slowly(self: Runner) -> None:
        here.wait(PATIENCE)
        assert go_on.wait(PATIENCE)
        run(self)

    monkeypatch.setattr(Runner, "run", slowly)
    found: list[Any] = []
    running = [started(lambda s=i: found.append(right(backend, SIZES[0], s))) for i in range(2)]
    here.wait(PATIENCE)  # both lanes are taken

    def late() -> None:
        with pytest.raises(ArtefactError, match="closed; load it again"):
            right(backend, SIZES[0], 9)
        found.append("refused")

    waiting = started(late)
    waiting.join(0.05)
    assert waiting.is_alive()
    closing = started(backend.close)
    joined(waiting)
    closing.join(0.05)
    assert closing.is_alive()
    go_on.set()
    for thread in (*running, closing):
        joined(thread)
    assert found == ["refused", True, True]
    assert set(cuda.left().values()) == {0}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_load_that_fails_at_the_second_lane_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda, flavour: Flavour
) -> None:
    create, made = LoadedEngine.create_context, []

    def one_only(self: LoadedEngine, *configure: Any) -> Any:
        if made:
            raise BackendError("cannot make room for the engine")
        made.append(create(self, *configure))
        return made[-1]

    monkeypatch.setattr(LoadedEngine, "create_context", one_only)
    with pytest.raises(BackendError, match="make room"):
        load(tmp_path, flavour, streams=2)
    made.clear()
    gc.collect()
    assert set(cuda.left().values()) == {0}


def test_kernels_of_rtx_are_kept_from_all_lanes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rtx: FakeTrt
) -> None:
    with load(tmp_path, "tensorrt-rtx", streams=2) as backend, monkeypatch.context() as patched:
        all_at_once(patched, 2)
        for thread in [started(lambda s=s: right(backend, s, 0)) for s in SIZES[:2]]:
            joined(thread)
    load(tmp_path, "tensorrt-rtx").close()
    assert "2 kernels read" in rtx.events
    assert rtx.events.count("context") == rtx.events.count("context gone")


def test_copies_are_those_of_the_threads_own_call(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(tmp_path, streams=2)
    assert right(backend, SIZES[0], 1)
    frame = GpuFrame(cuda, picture("frame", SIZES[0]))
    joined(started(lambda: backend.infer_device(frame)))
    assert backend.copies == 3
