from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import fake_trt
import pytest
from at_once import joined, started
from engine_files import engine_file
from fake_cuda import FakeCuda
from fake_kernels import compile_fake
from fake_trt import FakeTrt

import allfocus
from allfocus.kernels import plugin_library
from allfocus.runtime.cudart import Device
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.manifest import Flavour, Manifest, read_manifest
from allfocus.runtime.memory import Allowance
from allfocus.runtime.spec import Io
from allfocus.runtime.trt_engine import (
    LoadedEngine,
    check_plugins,
    check_target,
    check_version,
    error_log,
    import_flavour,
)
from allfocus.runtime.trt_plugins import load_plugins


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def trt(cuda: FakeCuda) -> FakeTrt:
    return FakeTrt(cuda)


def load(path: Path, trt: Any) -> LoadedEngine:
    return LoadedEngine(path, read_manifest(path), trt)


def test_a_runtime_that_cannot_start_is_told(tmp_path: Path, trt: FakeTrt) -> None:
    """Pybind11 raises a TypeError where CUDA does not start inside of TensorRT."""

    def fail(_: Any) -> Any:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    trt.Runtime = fail  # type: ignore[assignment]
    with pytest.raises(BackendError, match=r"cannot start: .*NVIDIA driver is new enough"):
        load(engine_file(tmp_path), trt)


def test_an_engine_may_work_in_no_memory(tmp_path: Path, trt: FakeTrt) -> None:
    """RTX has no attribute of the former name."""
    trt.work_bytes = 0
    assert load(engine_file(tmp_path), trt).take_room(Allowance(1), 3, 4) == 1


@pytest.mark.parametrize("version", [allfocus.__version__, "unknown", "0.0.9"])
def test_plugins_of_another_allfocus_are_refused(
    tmp_path: Path, trt: FakeTrt, library: Path, version: str
) -> None:
    compile_library(
        library,
        "int allfocus_plugins_tensorrt(void) { return 10; }"
        f'const char* allfocus_version(void) {{ return "{version}"; }}',
    )
    path = engine_file(tmp_path, plugins=True)
    if version != "0.0.9":
        assert load(path, trt).outputs == ("sharp", "defocus")
        return
    with pytest.raises(BackendError, match=r"belongs to allfocus 0\.0\.9, .*--plugins off"):
        load(path, trt)


def compile_library(library: Path, code: str) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: no library can be made to look at")
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    subprocess.run(command, input=code.encode(), check=True)


@pytest.mark.parametrize(("made_for", "fits"), [(10, True), (11, False)])
def test_plugins_of_another_major_version_are_refused(
    tmp_path: Path, trt: FakeTrt, library: Path, made_for: int, fits: bool
) -> None:
    compile_library(library, f"int allfocus_plugins_tensorrt(void) {{ return {made_for}; }}")
    path = engine_file(tmp_path, plugins=True)
    if fits:
        assert load(path, trt).outputs == ("sharp", "defocus")
        return
    with pytest.raises(BackendError, match=r"built for TensorRT 11, and this is 10\.\S+: build it"):
        load(path, trt)


@pytest.mark.rtx
def test_every_name_used_exists_in_tensorrt_rtx() -> None:
    """The code has run against the stand-in, so what it uses is there; all of it is real."""
    real = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    kinds = [kind for kind in vars(fake_trt).values() if isinstance(kind, type)]
    for kind in kinds:
        if kind.__module__ != "fake_trt" or kind is FakeTrt:
            continue
        actual = (
            real.ILogger.Severity if kind.__name__ == "Severity" else getattr(real, kind.__name__)
        )
        for name in (n for n in dir(kind) if not n.startswith("_")):
            assert hasattr(actual, name), f"{kind.__name__}.{name}"
    settings = ("cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy")
    for name in settings:
        assert getattr(real.IRuntimeConfig, name).fset is not None, name
    for name in (n for n in vars(FakeTrt) if not n.startswith("_")):
        assert hasattr(real, name), name
    causes = real.EngineInvalidityDiagnostics.__members__
    assert all(causes[c.name].value == c.value for c in fake_trt.EngineInvalidityDiagnostics)


@pytest.mark.rtx
def test_real_rtx_says_why_it_cannot_load_an_engine(tmp_path: Path) -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    path = engine_file(tmp_path, flavour="tensorrt-rtx", version=real.__version__)
    with pytest.raises(
        ArtefactError, match=r"TensorRT for RTX .* cannot load it: .*MALFORMED_ENGINE.*; .*--force"
    ):
        load(path, real)


@pytest.mark.parametrize(("flavour", "extra"), [("tensorrt", "trt"), ("tensorrt-rtx", "trt-rtx")])
def test_missing_flavour_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, flavour: Flavour, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, flavour.replace("-", "_"), None)
    with pytest.raises(BackendError, match=rf'pip install "allfocus\[{extra}\]"'):
        import_flavour(flavour)


def test_flavour_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("tensorrt_rtx")
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    assert import_flavour("tensorrt-rtx") is module


@pytest.mark.parametrize("installed", ["10.13.3.9", "10.14.0.1", "11.0.0.1"])
def test_another_release_is_refused_naming_both(
    tmp_path: Path, trt: FakeTrt, installed: str
) -> None:
    path = engine_file(tmp_path, version="10.13.2.6")
    trt.__version__ = installed
    with pytest.raises(ArtefactError, match=rf"TensorRT 10\.13\.2\.6, {installed} is .*--force"):
        check_version(path, read_manifest(path), trt)


def test_another_build_of_the_same_release_is_left_to_tensorrt(
    tmp_path: Path, trt: FakeTrt
) -> None:
    trt.__version__ = "10.13.2.99"
    path = engine_file(tmp_path, version="10.13.2.6")
    check_version(path, read_manifest(path), trt)


def manifest(tmp_path: Path, flavour: Flavour, *targets: str) -> Manifest:
    return read_manifest(engine_file(tmp_path, flavour=flavour, targets=targets))


def test_fitting_gpu_is_accepted(tmp_path: Path, cuda: FakeCuda, trt: FakeTrt) -> None:
    found = manifest(tmp_path, "tensorrt-rtx", "sm86", "sm89")
    check_target(tmp_path, found, Device(cuda, 0), trt)


def test_rtx_engine_for_other_gpus_names_the_targets_to_build_for(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt
) -> None:
    found = manifest(tmp_path, "tensorrt-rtx", "sm86", "sm120")
    with pytest.raises(
        ArtefactError,
        match=r"built for sm86, sm120, GPU 0 \(Fake GPU\) is sm89; .*--backend tensorrt-rtx "
        r"--target sm86,sm120,sm89 --force",
    ):
        check_target(tmp_path, found, Device(cuda, 0), trt)


def test_gpu_that_rtx_does_not_know_is_sent_to_tensorrt(tmp_path: Path, trt: FakeTrt) -> None:
    found = manifest(tmp_path, "tensorrt-rtx", "sm86")
    hopper = Device(FakeCuda(capability=(9, 0)), 0)
    with pytest.raises(ArtefactError, match=r"is sm90, .*cannot build for; .*--backend tensorrt "):
        check_target(tmp_path, found, hopper, trt)


def test_tensorrt_engine_of_another_gpu_is_built_again_here(
    tmp_path: Path, cuda: FakeCuda, trt: FakeTrt
) -> None:
    found = manifest(tmp_path, "tensorrt", "sm86")
    with pytest.raises(ArtefactError, match=r"built for sm86, .*on this machine, .*--force"):
        check_target(tmp_path, found, Device(cuda, 0), trt)


@pytest.mark.parametrize("io", ["frame", "float"])
@pytest.mark.parametrize("defocus", [True, False])
def test_loads_and_names_the_outputs(tmp_path: Path, trt: FakeTrt, io: Io, defocus: bool) -> None:
    loaded = load(engine_file(tmp_path, io=io, defocus=defocus), trt)
    assert loaded.outputs == (("sharp", "defocus") if defocus else ("sharp",))
    loaded.close()
    assert trt.events == ["runtime", "engine", "engine gone", "runtime gone"]


def test_contexts_are_made_one_after_the_other(tmp_path: Path, trt: FakeTrt) -> None:
    loaded, inside, most = load(engine_file(tmp_path), trt), [], []

    def configure() -> None:
        inside.append(1)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()

    for thread in [started(lambda: loaded.create_context(configure)) for _ in range(3)]:
        joined(thread)
    assert most == [1, 1, 1]


def test_refused_engine_quotes_the_log(tmp_path: Path, trt: FakeTrt) -> None:
    error_log(trt).logger.log(fake_trt.Severity.ERROR, "of another engine")
    trt.fail.add("deserialize")
    with pytest.raises(ArtefactError, match=r"TensorRT 10\.\S+ cannot load it: Serialization as"):
        load(engine_file(tmp_path), trt)


def test_refused_rtx_engine_gives_the_causes_too(tmp_path: Path, trt: FakeTrt) -> None:
    trt.fail.add("deserialize")
    path = engine_file(tmp_path, flavour="tensorrt-rtx")
    with pytest.raises(ArtefactError, match="VERSION_MISMATCH, MALFORMED_ENGINE; Serialization"):
        load(path, trt)
    trt.fail.add("valid header")
    with pytest.raises(ArtefactError, match="cannot load it: Serialization"):
        load(path, trt)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plugin library, as far as anyone but TensorRT looks at it."""
    path = tmp_path / "liballfocus_plugins.so"
    path.write_bytes(b"library")
    monkeypatch.setenv("ALLFOCUS_PLUGINS", str(path))
    return path


def test_plugins_are_registered_once_and_before_the_engine(
    tmp_path: Path, trt: FakeTrt, library: Path
) -> None:
    path = engine_file(tmp_path, plugins=True)
    engines = [load(path, trt), load(path, trt)]
    assert trt.plugins == [str(library)]
    assert trt.events == ["runtime", "plugins", "engine", "runtime", "engine"]
    for engine in engines:
        engine.close()


def test_plugins_that_a_program_registered_itself_stay(
    tmp_path: Path, trt: FakeTrt, library: Path
) -> None:
    """TensorRT calls it a failure to register them once more."""
    trt.plugins.append("/elsewhere/" + library.name)
    load(engine_file(tmp_path, plugins=True), trt).close()
    assert trt.plugins == ["/elsewhere/" + library.name]


def test_a_library_without_code_for_the_gpu_is_told(
    tmp_path: Path, trt: FakeTrt, library: Path
) -> None:
    library.unlink()
    compile_fake(library, architectures="86,120")
    says = (
        r"compiled for sm_86, sm_120, and the engine is for sm90: add -DCMAKE_CUDA_ARCHITECTURES="
        r'"90" to the first command .*--plugins off'
    )
    with pytest.raises(BackendError, match=says):
        load(engine_file(tmp_path, targets=("sm90",), plugins=True), trt)
    assert not trt.plugins
    load(engine_file(tmp_path, targets=("sm89",), plugins=True), trt).close()
    assert trt.plugins == [str(library)]


def test_plugins_that_tensorrt_cannot_load_are_told(
    tmp_path: Path, trt: FakeTrt, library: Path
) -> None:
    trt.fail.add("plugins")
    says = (
        rf"TensorRT 10\.\S+ cannot load its plugins from {library}: Unable to load library; .*cmake"
    )
    with pytest.raises(BackendError, match=says):
        load(engine_file(tmp_path, plugins=True), trt)
    trt.fail.clear()
    assert load(engine_file(tmp_path, plugins=True), trt).outputs == ("sharp", "defocus")


@pytest.mark.rtx
def test_what_is_no_library_is_told_by_real_rtx(tmp_path: Path) -> None:
    real = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    (tmp_path / "x.so").write_bytes(b"text")
    log = error_log(real)
    alive = real.Runtime(log.logger)
    with pytest.raises(BackendError, match=r"cannot load its plugins from .*x\.so: .*too short"):
        load_plugins(real, tmp_path / "x.so", log, ("sm89",))
    del alive


@pytest.mark.usefixtures("library")
def test_an_engine_with_plugins_and_their_library_fit(tmp_path: Path) -> None:
    check_plugins(tmp_path, read_manifest(engine_file(tmp_path, plugins=True)))


def test_an_engine_whose_plugins_are_missing_says_how_to_get_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ALLFOCUS_PLUGINS", raising=False)
    monkeypatch.setattr(plugin_library, "BUILT", tmp_path / "none.so")
    path = engine_file(tmp_path, plugins=True)
    says = r"\.engine: built with plugins: .*cmake --build.*--plugins off --force"
    with pytest.raises(BackendError, match=says):
        check_plugins(path, read_manifest(path))
    check_plugins(path, manifest(tmp_path, "tensorrt", "sm89"))


CHANGED: list[tuple[Io, dict[str, Any]]] = [
    ("frame", {"image": ("FLOAT", [1, -1, -1, 3])}),
    ("frame", {"image": ("UINT8", [1, 3, -1, -1])}),
    ("frame", {"sharp": ("FLOAT", [1, -1, -1, 3])}),
    ("frame", {"defocus": ("HALF", [1, -1, -1])}),
    ("frame", {"sharp": None}),
    ("frame", {"extra": ("FLOAT", [1])}),
    ("float", {"image": ("FLOAT", [-1, 3, -1, -1])}),
    ("float", {"image": ("HALF", [1, 3, -1, -1])}),
]


@pytest.mark.parametrize(("io", "tensors"), CHANGED)
def test_tensors_that_do_not_fit_the_graph_are_refused(
    tmp_path: Path, trt: FakeTrt, io: Io, tensors: dict[str, Any]
) -> None:
    with pytest.raises(ArtefactError, match=rf"its tensors are .* a graph with the face '{io}'"):
        load(engine_file(tmp_path, io=io, tensors=tensors), trt)


def test_static_sizes_are_the_same_layout(tmp_path: Path, trt: FakeTrt) -> None:
    tensors = {"image": ("UINT8", [1, 8, 8, 3]), "defocus": ("FLOAT", [1, 8, 8])}
    path = engine_file(tmp_path, tensors=tensors)
    assert load(path, trt).outputs == ("sharp", "defocus")


def test_one_log_for_each_flavour(cuda: FakeCuda, trt: FakeTrt) -> None:
    other = FakeTrt(cuda)
    assert error_log(trt) is error_log(trt)
    assert error_log(trt) is not error_log(other)


def test_log_keeps_the_last_errors_and_passes_warnings_on(
    trt: FakeTrt, caplog: pytest.LogCaptureFixture
) -> None:
    log = error_log(trt)
    log.forget()
    assert log.tail() == "TensorRT gave no reason"
    with caplog.at_level(logging.DEBUG, "allfocus"):
        for number in range(5):
            log.logger.log(fake_trt.Severity.ERROR, f"error {number}\n")
        log.logger.log(fake_trt.Severity.INTERNAL_ERROR, "broken")
        log.logger.log(fake_trt.Severity.WARNING, "slow")
        log.logger.log(fake_trt.Severity.INFO, "chatter")
    assert log.tail() == "error 3 | error 4 | broken"
    with ThreadPoolExecutor(1) as pool:  # a lane of another stream
        assert pool.submit(log.tail).result() == "error 3 | error 4 | broken"
        pool.submit(log.logger.log, fake_trt.Severity.ERROR, "its own").result()
        assert pool.submit(log.tail).result() == "its own"
        pool.submit(log.forget).result()
    assert log.tail() == "error 3 | error 4 | broken"
    log.forget_all()
    assert log.tail() == "TensorRT gave no reason"
    assert [record.getMessage() for record in caplog.records] == ["TensorRT: slow"]
