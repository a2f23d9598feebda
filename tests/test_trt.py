from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fake_cuda
import fake_trt
import numpy as np
import pytest
from engine_files import engine_file, picture
from fake_cuda import Error, FakeCuda
from fake_trt import FakeTrt, net

from allfocus.runtime.backend import Options
from allfocus.runtime.errors import ArtefactError, BackendError, InputError
from allfocus.runtime.manifest import Flavour, manifest_path
from allfocus.runtime.spec import Io, Size
from allfocus.runtime.trt import TrtBackend

VERSION = "10.13.2.6"
FLAVOURS: tuple[Flavour, ...] = ("tensorrt", "tensorrt-rtx")


@pytest.fixture(autouse=True)
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return fake_cuda.install(monkeypatch, FakeCuda(devices=2))


@pytest.fixture(autouse=True)
def trt(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeTrt:
    return fake_trt.install(monkeypatch, "tensorrt", cuda, VERSION)


@pytest.fixture(autouse=True)
def rtx(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> FakeTrt:
    return fake_trt.install(monkeypatch, "tensorrt-rtx", cuda, VERSION)


def load(path: Path, **options: Any) -> TrtBackend:
    return TrtBackend(path, Options(**options))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_loads_says_what_it_is_and_gives_everything_back(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt, rtx: FakeTrt, flavour: Flavour
) -> None:
    used = trt if flavour == "tensorrt" else rtx
    with load(engine_file(tmp_path, flavour=flavour)) as backend:
        assert (backend.name, backend.spec.name) == (flavour, "didanet-tiny")
        backend.infer(picture("frame", Size(8, 8)))
        assert cuda.left()["blocks"] == 6  # three tensors, and their pinned twins
    assert set(cuda.left().values()) == {0}
    ends = [event for event in used.events if event.endswith("gone") or "written" in event]
    if flavour == "tensorrt":
        assert ends == ["context gone", "engine gone", "runtime gone"]
    else:
        written = ["kernels written", "context gone", "config gone", "config gone"]
        assert ends == [*written, "engine gone", "runtime gone"]


def test_an_engine_with_plugins_runs_where_they_are(
    tmp_path: Path, trt: FakeTrt, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = engine_file(tmp_path, plugins=True)
    monkeypatch.setenv("ALLFOCUS_PLUGINS", str(tmp_path / "gone.so"))
    with pytest.raises(BackendError, match=r"built with plugins: ALLFOCUS_PLUGINS=.*gone\.so"):
        load(path)
    assert trt.events == []  # refused before the GPU is asked for anything
    (tmp_path / "gone.so").write_bytes(b"library")
    with load(path) as backend:
        image = picture("frame", Size(8, 8))
        np.testing.assert_array_equal(backend.infer(image).sharp, net(image)[0])
    assert set(cuda.left().values()) == {0}


def test_missing_manifest_and_damaged_engines_are_refused(tmp_path: Path, trt: FakeTrt) -> None:
    path = engine_file(tmp_path)
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    with pytest.raises(ArtefactError, match="cut short"):
        load(path)
    path.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    with pytest.raises(ArtefactError, match="differ from what was built"):
        load(path)
    path.write_bytes(good)
    manifest_path(path).unlink()
    with pytest.raises(ArtefactError, match=r"manifest didanet-tiny\.json is missing"):
        load(path)
    assert trt.events == []


def test_missing_flavour_is_told_before_a_missing_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda
) -> None:
    cuda.devices = 0
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(BackendError, match=r'for RTX.*pip install "allfocus\[trt-rtx\]"'):
        load(engine_file(tmp_path, flavour="tensorrt-rtx"))


def test_missing_cuda_python_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trt: FakeTrt
) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(BackendError, match=r'cuda-python.*pip install "allfocus\[trt\]"'):
        load(engine_file(tmp_path))
    assert trt.events == []


def test_other_version_is_told_before_a_missing_gpu(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt
) -> None:
    cuda.devices = 0
    trt.__version__ = "10.9.0.34"
    with pytest.raises(ArtefactError, match=r"10\.13\.2\.6, 10\.9\.0\.34 is installed"):
        load(engine_file(tmp_path))


def test_missing_gpu_is_told(tmp_path: Path, cuda: FakeCuda, trt: FakeTrt) -> None:
    cuda.devices = 0
    with pytest.raises(BackendError, match="no usable NVIDIA GPU"):
        load(engine_file(tmp_path))
    assert trt.events == []


def test_engine_for_another_gpu_is_refused_before_it_is_loaded(
    tmp_path: Path, trt: FakeTrt
) -> None:
    with pytest.raises(ArtefactError, match=r"built for sm75, .*is sm89"):
        load(engine_file(tmp_path, targets=("sm75",)))
    assert trt.events == []


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("failure", ["deserialize", "context"])
def test_failed_load_leaves_nothing(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt, rtx: FakeTrt, flavour: Flavour, failure: str
) -> None:
    (trt if flavour == "tensorrt" else rtx).fail.add(failure)
    with pytest.raises((ArtefactError, BackendError), match=r"Serialization|OutOfMemory"):
        load(engine_file(tmp_path, flavour=flavour))
    gc.collect()
    assert set(cuda.left().values()) == {0}


@pytest.mark.parametrize("io", ["frame", "float"])
@pytest.mark.parametrize("defocus", [True, False])
def test_host_frames_are_right_every_time(tmp_path: Path, io: Io, defocus: bool) -> None:
    backend = load(engine_file(tmp_path, io=io, defocus=defocus))
    results = []
    for seed, size in enumerate([Size(8, 8), Size(8, 8), Size(12, 8), Size(8, 8), Size(8, 8)]):
        image = picture(io, size, seed)
        results.append((backend.infer(image), net(image)))
    for outputs, (sharp, radius) in results:  # later calls have not touched earlier results
        assert np.array_equal(outputs.sharp, sharp)
        assert outputs.sharp.dtype == sharp.dtype
        if defocus:
            assert np.array_equal(outputs.defocus, radius)
        else:
            assert outputs.defocus is None
    assert backend.copies == (3 if defocus else 2)
    assert backend.calls == 5


def test_host_frame_is_waited_for_once(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    backend.infer(picture("frame", Size(8, 8)))
    cuda.calls.clear()
    backend.infer(picture("frame", Size(8, 8)))
    assert cuda.calls.count("cudaStreamSynchronize") == 1
    assert not {"cudaMalloc", "cudaMallocHost", "cudaFree"} & set(cuda.calls)


def test_staging_memory_only_grows(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    for size in (Size(8, 8), Size(4, 4), Size(16, 8), Size(8, 8)):
        backend.infer(picture("frame", size))
    assert cuda.calls.count("cudaMallocHost") == 6
    assert cuda.calls.count("cudaFreeHost") == 3


def test_frame_that_does_not_fit_never_reaches_the_gpu(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    cuda.calls.clear()
    for image in (picture("float", Size(8, 8)), picture("frame", Size(9, 8))):
        with pytest.raises(InputError):
            backend.infer(image)
    assert cuda.calls == []


def test_cuda_graphs_of_tensorrt_are_ours(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    for seed in range(3):
        image = picture("frame", Size(8, 8), seed)
        assert np.array_equal(backend.infer(image).sharp, 255 - image)
    assert backend.cuda_graph
    assert cuda.calls.count("cudaGraphLaunch") == 2


def test_cuda_graphs_of_rtx_are_its_own(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path, flavour="tensorrt-rtx"))
    for seed in range(3):
        backend.infer(picture("frame", Size(8, 8), seed))
    assert backend.cuda_graph
    assert "cudaStreamBeginCapture" not in cuda.calls


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_cuda_graphs_can_be_switched_off(tmp_path: Path, cuda: FakeCuda, flavour: Flavour) -> None:
    backend = load(engine_file(tmp_path, flavour=flavour), cuda_graph=False)
    for seed in range(3):
        backend.infer(picture("frame", Size(8, 8), seed))
    assert not backend.cuda_graph
    assert "cudaStreamBeginCapture" not in cuda.calls


def test_failed_capture_is_told_by_the_property(tmp_path: Path, trt: FakeTrt) -> None:
    trt.capturable = False
    backend = load(engine_file(tmp_path))
    for seed in range(3):
        image = picture("frame", Size(8, 8), seed)
        assert np.array_equal(backend.infer(image).sharp, 255 - image)
    assert not backend.cuda_graph


def test_a_failed_call_does_not_spoil_the_next(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt
) -> None:
    backend = load(engine_file(tmp_path))
    image = picture("frame", Size(8, 8))
    trt.fail.add("execute")
    with pytest.raises(BackendError, match="cannot run the engine"):
        backend.infer(image)
    assert not any(stream.queue for stream in cuda.streams.values())
    trt.fail.clear()
    assert np.array_equal(backend.infer(image).sharp, 255 - image)


def test_importing_the_backend_imports_no_engine() -> None:
    script = (
        "import sys, allfocus.runtime.trt\n"
        "assert not {'tensorrt', 'tensorrt_rtx', 'cuda', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_closed_backend_refuses_frames(tmp_path: Path, cuda: FakeCuda) -> None:
    backend = load(engine_file(tmp_path))
    backend.close()
    backend.close()
    for call in (backend.infer, backend.infer_device):
        with pytest.raises(ArtefactError, match="closed; load it again"):
            call(picture("frame", Size(8, 8)))
    assert set(cuda.left().values()) == {0}


def test_forgotten_backend_gives_everything_back(
    tmp_path: Path, cuda: FakeCuda, rtx: FakeTrt
) -> None:
    backend = load(engine_file(tmp_path, flavour="tensorrt-rtx"))
    backend.infer(picture("frame", Size(8, 8)))
    del backend
    gc.collect()
    assert set(cuda.left().values()) == {0}
    assert "kernels written" in rtx.events


def test_kernels_of_rtx_are_kept_where_nobody_closes(tmp_path: Path, own_cache: Path) -> None:
    script = (
        "import sys, numpy as np, fake_trt\n"
        "from fake_cuda import FakeCuda\n"
        "from pathlib import Path\n"
        "cuda = sys.modules['cuda.bindings.runtime'] = FakeCuda()\n"
        f"sys.modules['tensorrt_rtx'] = fake_trt.FakeTrt(cuda, {VERSION!r})\n"
        "from allfocus.runtime.backend import Options\n"
        "from allfocus.runtime.trt import TrtBackend\n"
        "backend = TrtBackend(Path(sys.argv[1]), Options())\n"
        "backend.infer(np.zeros((1, 8, 8, 3), np.uint8))\n"
    )
    path = engine_file(tmp_path, flavour="tensorrt-rtx")
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": here}
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment)
    (kernels,) = (own_cache / "rtx-kernels").glob("*.bin")
    assert json.loads(kernels.read_text()) == [[8, 9], ["8x8"]]


def test_closing_waits_for_the_frame_that_runs(
    tmp_path: Path, cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = load(engine_file(tmp_path))
    image = picture("frame", Size(8, 8))
    running, go_on = threading.Event(), threading.Event()
    with backend._lanes.one() as lane:
        runner = lane.runner
    run = runner.run

    def slowly() -> None:
        running.set()
        assert go_on.wait(10)
        run()

    monkeypatch.setattr(runner, "run", slowly)
    results: list[Any] = []
    worker = threading.Thread(target=lambda: results.append(backend.infer(image)))
    worker.start()
    assert running.wait(10)
    closer = threading.Thread(target=backend.close)
    closer.start()
    closer.join(0.05)
    assert closer.is_alive()
    go_on.set()
    for thread in (worker, closer):
        thread.join(10)
        assert not thread.is_alive()
    assert np.array_equal(results[0].sharp, 255 - image)
    assert set(cuda.left().values()) == {0}


def test_frame_that_waited_while_the_backend_was_closed_is_refused(tmp_path: Path) -> None:
    backend = load(engine_file(tmp_path))
    errors: list[Exception] = []

    def late() -> None:
        try:
            backend.infer(picture("frame", Size(8, 8)))
        except ArtefactError as error:
            errors.append(error)

    with backend._lanes.one():
        threads = [threading.Thread(target=late), threading.Thread(target=backend.close)]
        for thread in threads:
            thread.start()
            thread.join(0.05)
    for thread in threads:
        thread.join(10)
    assert "closed" in str(errors[0])


def test_frames_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    backend = load(engine_file(tmp_path))
    wrong: list[int] = []

    def work(seed: int) -> None:
        for turn in range(8):
            image = picture("frame", Size(4 * (1 + seed % 2), 8), 10 * seed + turn)
            if not np.array_equal(backend.infer(image).sharp, 255 - image):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert backend.calls == 32


def test_errors_while_closing_are_logged(
    tmp_path: Path, cuda: FakeCuda, caplog: pytest.LogCaptureFixture
) -> None:
    backend = load(engine_file(tmp_path))
    backend.infer(picture("frame", Size(8, 8)))
    cuda.failures["cudaFree"] = Error.cudaErrorIllegalAddress
    backend.close()
    assert "cudaErrorIllegalAddress" in caplog.text
