from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from engine_files import engine_file
from fake_cuda import FakeCuda
from fake_trt import CudaGraphStrategy, DynamicShapesKernelSpecializationStrategy, FakeTrt

from allfocus.runtime.cudart import Device
from allfocus.runtime.errors import BackendError
from allfocus.runtime.manifest import read_manifest
from allfocus.runtime.rtx import RtxSettings, cache_path
from allfocus.runtime.trt_engine import LoadedEngine


@pytest.fixture
def trt() -> FakeTrt:
    return FakeTrt(FakeCuda(), "1.7.1.116")


def settings(trt: FakeTrt, folder: Path, *, cuda_graph: bool = True) -> RtxSettings:
    path = engine_file(folder, flavour="tensorrt-rtx", version="1.7.1.116")
    loaded = LoadedEngine(path, read_manifest(path), trt)
    return RtxSettings(loaded, Device(trt.cuda, 0), cuda_graph=cuda_graph)


def compile_for(made: RtxSettings, size: str) -> None:
    made._cache._sizes.append(size)  # as a context does when a new size comes


@pytest.mark.parametrize("wanted", [True, False])
def test_rtx_captures_graphs_itself_where_wanted(
    trt: FakeTrt, tmp_path: Path, wanted: bool
) -> None:
    made = settings(trt, tmp_path, cuda_graph=wanted)
    strategy = CudaGraphStrategy.WHOLE_GRAPH_CAPTURE if wanted else CudaGraphStrategy.DISABLED
    assert made.configure().cuda_graph_strategy == strategy
    assert made.cuda_graph is wanted


def test_contexts_share_their_kernels_and_nothing_else(trt: FakeTrt, tmp_path: Path) -> None:
    made = settings(trt, tmp_path)
    first, second = made.configure(), made.configure()
    assert first is not second
    assert first._cache is second._cache is made._cache


def test_no_frame_waits_for_a_compiler(trt: FakeTrt, tmp_path: Path) -> None:
    strategy = settings(trt, tmp_path).configure().dynamic_shapes_kernel_specialization_strategy
    assert strategy == DynamicShapesKernelSpecializationStrategy.LAZY


def test_kernels_are_kept_for_the_next_run(trt: FakeTrt, tmp_path: Path, own_cache: Path) -> None:
    made = settings(trt, tmp_path)
    assert not made.path.exists()
    compile_for(made, "8x8")
    made.save()
    assert made.path.parent == own_cache / "rtx-kernels"
    again = settings(trt, tmp_path)
    assert "1 kernels read" in trt.events
    assert again._cache._sizes == ["8x8"]


def test_nothing_new_is_not_written_again(trt: FakeTrt, tmp_path: Path) -> None:
    made = settings(trt, tmp_path)
    compile_for(made, "8x8")
    made.save()
    made.path.unlink()
    made.save()
    assert not made.path.exists()


@pytest.mark.parametrize("content", [b"", b"rubbish", json.dumps([[7, 5], ["8x8"]]).encode()])
def test_kernels_that_do_not_fit_are_replaced(trt: FakeTrt, tmp_path: Path, content: bytes) -> None:
    first = settings(trt, tmp_path)
    first.path.parent.mkdir(parents=True)
    first.path.write_bytes(content)
    made = settings(trt, tmp_path)
    assert made._cache._sizes == []
    compile_for(made, "4x4")
    made.save()
    assert settings(trt, tmp_path)._cache._sizes == ["4x4"]


def test_unreadable_and_unwritable_kernels_are_only_warned_about(
    trt: FakeTrt, tmp_path: Path, own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings(trt, tmp_path).path.mkdir(parents=True)
    with caplog.at_level(logging.WARNING, "allfocus"):
        made = settings(trt, tmp_path)
        compile_for(made, "8x8")
        made.save()
    assert "cannot be read" in caplog.text
    assert "not kept for the next run: cannot write" in caplog.text
    assert [p.name for p in (own_cache / "rtx-kernels").iterdir()] == [made.path.name]


def test_failed_serialisation_writes_nothing(trt: FakeTrt, tmp_path: Path) -> None:
    made = settings(trt, tmp_path)
    trt.fail.add("serialize")
    made.save()
    assert not made.path.exists()


def test_failed_configuration_is_an_error(trt: FakeTrt, tmp_path: Path) -> None:
    trt.fail.add("config")
    with pytest.raises(BackendError, match="cannot be configured"):
        settings(trt, tmp_path)


def test_each_engine_and_gpu_has_its_own_file() -> None:
    paths = {cache_path(sha, gpu) for sha in ("a" * 64, "b" * 64) for gpu in ("sm86", "sm89")}
    assert len(paths) == 4


@pytest.mark.rtx
def test_real_host_memory_becomes_bytes() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    tensor = network.add_input("image", trt.float32, (1, 3))
    network.mark_output(network.add_identity(tensor).get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    memory = builder.build_serialized_network(network, config)
    assert len(bytes(memory)) == memory.nbytes > 0
