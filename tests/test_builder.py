"""Building engines: for real with TensorRT for RTX, and what is refused before it is asked."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from fake_builder import FakeTrt
from onnx import NodeProto, TensorProto, helper

from allfocus.export import builder, progress, to_onnx
from allfocus.export.builder import build_engine, check_operators
from allfocus.export.flavour import DEFAULT_TARGETS, RTX_TARGETS, Target
from allfocus.runtime.errors import ArtefactError, BackendError
from allfocus.runtime.manifest import Flavour
from allfocus.runtime.spec import Graph, Io, Precision, Shapes, Size
from allfocus.train.checkpoint import random

SMALL = Shapes.static(Size(64, 48))
RANGE = Shapes(Size(32, 32), Size(64, 48), Size(128, 96))
FOREIGN = "camera.vendor"


def target(flavour: Flavour = "tensorrt-rtx", targets: Sequence[str] = DEFAULT_TARGETS) -> Target:
    return Target(flavour=flavour, version="", targets=tuple(targets), gpu="")


def graph_of(shapes: Shapes, io: Io = "frame", precision: Precision = "fp16") -> Graph:
    return Graph(io=io, precision=precision, color="rgb", shapes=shapes)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[Shapes, Path]:
    """didanet-tiny, frame face in fp16, for one size and for a range."""
    folder = tmp_path_factory.mktemp("builder")
    net, spec = random("didanet-tiny", 0)
    made = {}
    for shapes in (SMALL, RANGE):
        made[shapes] = folder / f"{shapes}.onnx"
        to_onnx.write(to_onnx.export(net.eval(), spec, graph_of(shapes)), made[shapes])
    return made


def onnx_file(path: Path, nodes: Sequence[NodeProto], functions: Sequence[Any] = ()) -> Path:
    """A file that computes `sharp` [1, 3, 8, 8] from `image` by `nodes`."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in _ENDS]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(FOREIGN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)
    onnx.save(model, str(path))
    return path


_ENDS = ("image", "sharp")


def foreign(output: str = "sharp") -> NodeProto:
    return helper.make_node("Demosaic", ["image"], [output], domain=FOREIGN)


def own_function(*body: NodeProto) -> Any:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(FOREIGN, 1)]
    return helper.make_function(FOREIGN, "Demosaic", ["image"], ["sharp"], body, opsets)


@pytest.mark.rtx
def test_one_engine_for_three_generations_within_five_seconds(files: dict[Shapes, Path]) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    start = perf_counter()
    built = build_engine(files[SMALL], graph_of(SMALL), target())
    assert perf_counter() - start <= 5
    assert built.version == trt.__version__
    assert len(built.data) > 100_000
    one = build_engine(files[SMALL], graph_of(SMALL), target(targets=["sm89"]))
    assert one.data != built.data


@pytest.mark.rtx
def test_a_range_of_sizes_for_every_target(files: dict[Shapes, Path]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    assert build_engine(files[RANGE], graph_of(RANGE), target(targets=RTX_TARGETS)).data


@pytest.mark.rtx
def test_a_range_without_its_profile_is_told(files: dict[Shapes, Path]) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    with pytest.raises(BackendError, match=r"could not build the engine: .*profile"):
        build_engine(files[RANGE], graph_of(SMALL), target())


@pytest.mark.rtx
def test_an_operator_that_rtx_lacks_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    file = onnx_file(
        tmp_path / "x.onnx",
        [
            helper.make_node("Det", ["image"], ["volume"], name="measure"),
            helper.make_node("Add", ["image", "volume"], ["sharp"]),
        ],
    )
    with pytest.raises(ArtefactError, match=r"cannot read it: Det 'measure'"):
        build_engine(file, graph_of(SMALL), target())


@pytest.mark.rtx
def test_a_function_of_the_file_itself_builds(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    relu = own_function(helper.make_node("Relu", ["image"], ["sharp"]))
    file = onnx_file(tmp_path / "x.onnx", [foreign()], [relu])
    assert build_engine(file, graph_of(SMALL), target()).data


def in_a_branch() -> list[NodeProto]:
    output = helper.make_tensor_value_info("sharp", TensorProto.FLOAT, None)
    same = helper.make_node("Identity", ["image"], ["sharp"])
    branches = [helper.make_graph([node], "b", [], [output]) for node in (same, foreign())]
    condition = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    return [
        helper.make_node("Constant", [], ["yes"], value=condition),
        helper.make_node(
            "If", ["yes"], ["sharp"], then_branch=branches[0], else_branch=branches[1]
        ),
    ]


@pytest.mark.parametrize(
    ("nodes", "functions"),
    [
        ([foreign()], []),
        (in_a_branch(), []),
        ([foreign()], [own_function(helper.make_node("Raw", ["image"], ["sharp"], domain="x"))]),
        ([helper.make_node("Sharpen", ["image"], ["sharp"])], []),
    ],
    ids=["node", "branch", "function body", "not standard"],
)
def test_foreign_operators_never_reach_rtx(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nodes: list[NodeProto],
    functions: list[Any],
) -> None:
    monkeypatch.setattr(builder, "import_flavour", lambda _: SimpleNamespace())  # builds nothing
    file = onnx_file(tmp_path / "x.onnx", nodes, functions)
    with pytest.raises(ArtefactError, match=r"(Demosaic|x::Raw|ai\.onnx::Sharpen); use --backend"):
        build_engine(file, graph_of(SMALL), target())


def test_a_damaged_onnx_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ArtefactError, match="damaged, or not an ONNX file"):
        check_operators(tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("flavour", "module", "extra"),
    [("tensorrt", "tensorrt", "trt"), ("tensorrt-rtx", "tensorrt_rtx", "trt-rtx")],
)
def test_a_missing_flavour_names_its_extra(
    files: dict[Shapes, Path],
    monkeypatch: pytest.MonkeyPatch,
    flavour: Flavour,
    module: str,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BackendError, match=rf'pip install "allfocus\[{extra}\]"'):
        build_engine(files[SMALL], graph_of(SMALL), target(flavour))


def test_tensorrt_builds_strongly_typed_and_without_targets(
    files: dict[Shapes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = FakeTrt(b"engine")
    monkeypatch.setattr(builder, "import_flavour", lambda _: trt)
    built = build_engine(files[SMALL], graph_of(SMALL), target("tensorrt", ["sm90"]))
    assert (built.data, built.version) == (b"engine", "10.3.0")
    assert trt.flags == 1 << trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert set(vars(trt.config)) == {"clear_flag", "set_flag"}  # no targets
    assert trt.builder_flags == set()  # float32 is float32


@pytest.mark.rtx
def test_rtx_works_in_the_memory_that_it_is_given_and_without_tf32() -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    config = builder._start(trt, "tensorrt-rtx").create_builder_config()
    builder._set_flags(trt, config, "tensorrt-rtx")
    assert not config.get_flag(trt.BuilderFlag.TF32)
    assert config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def test_a_build_that_fails_is_told(
    files: dict[Shapes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "import_flavour", lambda _: FakeTrt(None))
    with pytest.raises(BackendError, match=r"TensorRT 10\.3\.0 could not build the engine"):
        build_engine(files[SMALL], graph_of(SMALL), target("tensorrt", ["sm90"]))


def test_a_driver_that_is_too_old_is_told(
    files: dict[Shapes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old(FakeTrt):
        def Builder(self, _logger: Any) -> Any:  # noqa: N802
            raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(builder, "import_flavour", lambda _: Old(None))
    with pytest.raises(BackendError, match=r"cannot start.*NVIDIA driver"):
        build_engine(files[SMALL], graph_of(SMALL), target("tensorrt", ["sm90"]))


def test_a_target_that_the_release_lacks_is_named(
    files: dict[Shapes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "import_flavour", lambda _: FakeTrt(b""))
    with pytest.raises(BackendError, match=r"cannot build for sm120, sm121"):
        build_engine(files[SMALL], graph_of(SMALL), target(targets=["sm86", "sm120", "sm121"]))


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can, so that every order of events comes up."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("hasty_threads")
def test_ctrl_c_cancels_the_work_and_waits_for_its_end() -> None:
    for _ in range(50):
        cancel, ended = Event(), Event()

        def work(cancel: Event = cancel, ended: Event = ended) -> None:
            signal.raise_signal(signal.SIGINT)
            assert cancel.wait(timeout=20)
            ended.set()

        with pytest.raises(KeyboardInterrupt):
            progress.cancellable(work, cancel)
        assert ended.is_set()


def test_ctrl_c_means_the_same_before_and_after() -> None:
    progress.cancellable(lambda: None, Event())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_of_ctrl_c_is_left_in_place() -> None:
    cancel, called = Event(), Event()
    former = signal.signal(signal.SIGINT, lambda _number, _frame: called.set())
    try:
        progress.cancellable(lambda: signal.raise_signal(signal.SIGINT), cancel)
    finally:
        signal.signal(signal.SIGINT, former)
    assert called.is_set()
    assert not cancel.is_set()


def test_work_gives_its_result_and_its_error() -> None:
    assert progress.cancellable(lambda: 7, Event()) == 7
    with pytest.raises(ZeroDivisionError):
        progress.cancellable(lambda: 1 // 0, Event())


@pytest.mark.rtx
def test_ctrl_c_ends_a_real_build(
    files: dict[Shapes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    plans = []
    real = progress.cancellable

    def interrupted(work: Any, cancel: Event) -> Any:
        def slow() -> None:
            signal.raise_signal(signal.SIGINT)
            assert cancel.wait(timeout=20)
            plans.append(work())

        return real(slow, cancel)

    monkeypatch.setattr(builder, "cancellable", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_engine(files[SMALL], graph_of(SMALL), target())
    assert plans == [None]
    assert "BuildCanceled" in builder.error_log(trt).tail()
