"""`--plugins`: when they are used, what TensorRT is then given, and what the files say of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from fake_builder import FakeTrt
from fake_kernels import compile_fake
from ops_net import NAMES, ops_net

from allfocus.export import builder, cache, flavour, plan, to_onnx, to_trt
from allfocus.export.builder import build_engine
from allfocus.export.flavour import Target
from allfocus.export.plan import Options, Plan, make_plan
from allfocus.export.weights import Weights
from allfocus.kernels import plugin_library
from allfocus.kernels.plugin_library import find_plugins, require_plugins
from allfocus.runtime.errors import ArtefactError, BackendError, UsageError
from allfocus.runtime.gpu import Gpu, Gpus
from allfocus.runtime.manifest import read_manifest
from allfocus.runtime.spec import Graph, Shapes, Size

GRAPH = Graph(io="frame", precision="fp16", color="rgb", shapes=Shapes.static(Size(64, 48)))
HERE = Target(flavour="tensorrt", version="10.3.0", targets=("sm89",), gpu="GeForce RTX 4090")


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep away from what this machine has built."""
    monkeypatch.delenv("ALLFOCUS_PLUGINS", raising=False)
    monkeypatch.setattr(plugin_library, "BUILT", tmp_path / "lib" / "liballfocus_plugins.so")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "plugins.so"
    path.write_bytes(b"library")
    monkeypatch.setenv("ALLFOCUS_PLUGINS", str(path))
    return path


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> FakeTrt:
    """TensorRT and a GPU, as far as planning and building notice."""
    fake = FakeTrt(b"engine")
    gpus = Gpus((Gpu(0, HERE.gpu, "sm89", 24 << 30),), "13.0", "580.95", "")
    monkeypatch.setattr(flavour, "installed_version", {"tensorrt": fake.__version__}.get)
    monkeypatch.setattr(flavour, "find_gpus", lambda: gpus)
    monkeypatch.setattr(builder, "import_flavour", lambda _: fake)
    return fake


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The net with both operations."""
    path = tmp_path_factory.mktemp("plugins") / "ops.onnx"
    to_onnx.write(to_onnx.export(*ops_net(), GRAPH), path)
    return path


def planned(**options: Any) -> Plan:
    return make_plan(Options(**{"model": "didanet-tiny", "weights": "random:0", **options}))[0]


def test_the_library_is_the_built_one_or_the_named_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert find_plugins() is None
    built, named = plugin_library.BUILT, tmp_path / "named.so"
    built.parent.mkdir()
    for path in (built, named):
        path.write_bytes(b"library")
    assert find_plugins() == require_plugins() == built
    monkeypatch.setenv("ALLFOCUS_PLUGINS", str(named))
    assert find_plugins() == require_plugins() == named


def test_a_library_that_is_missing_says_how_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"not built .*cmake -S \. -B out .*ALLFOCUS_PLUGINS"):
        require_plugins()
    monkeypatch.setenv("ALLFOCUS_PLUGINS", "/nowhere/x.so")
    for ask in (find_plugins, require_plugins):
        with pytest.raises(BackendError, match=r"ALLFOCUS_PLUGINS=/nowhere/x\.so: no such file"):
            ask()


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_takes_plugins_where_they_are(library: Path) -> None:
    assert planned().plugins == library
    assert planned(plugins="on").plugins == library
    assert planned(plugins="off").plugins is None


@pytest.mark.usefixtures("tensorrt")
def test_a_library_for_other_gpus_is_left_out_with_a_note(library: Path) -> None:
    library.unlink()
    compile_fake(library, architectures="90")  # and its PTX, which the driver takes from 9.0 on
    options = {"model": "didanet-tiny", "weights": "random:0"}
    made, notes = make_plan(Options(**options))
    assert made.plugins is None
    assert [note for note in notes if "without plugins" in note and "compiled for sm_90" in note]
    assert make_plan(Options(**options, plugins="on"))[0].plugins == library  # told by the build


@pytest.mark.usefixtures("tensorrt")
def test_tensorrt_without_the_library() -> None:
    assert planned().plugins is None
    assert planned(plugins="off").plugins is None
    with pytest.raises(BackendError, match=r"plugins are not built .*cmake --build out"):
        planned(plugins="on")


def test_rtx_never_takes_plugins(monkeypatch: pytest.MonkeyPatch, library: Path) -> None:
    monkeypatch.setattr(flavour, "installed_version", {"tensorrt-rtx": "1.7"}.get)
    assert library.is_file()
    assert planned(backend="tensorrt-rtx").plugins is None
    for backend in ("auto", "tensorrt-rtx"):
        with pytest.raises(UsageError, match=r"ends the whole process.*use --backend tensorrt,"):
            planned(backend=backend, plugins="on")


@pytest.mark.usefixtures("library")
def test_an_onnx_file_alone_has_no_plugins() -> None:
    assert planned(onnx_only=True).plugins is None
    with pytest.raises(UsageError, match=r"makes no engine: .*--plugins on"):
        planned(onnx_only=True, plugins="on")


def test_an_unknown_choice_offers_the_known() -> None:
    with pytest.raises(UsageError, match="unknown --plugins 'of': did you mean"):
        planned(onnx_only=True, plugins="of")


def test_the_librarys_bytes_are_in_the_key_and_its_place_is_not(tmp_path: Path) -> None:
    without = Plan(model="didanet-tiny", weights=Weights(None, 0), graph=GRAPH, target=HERE)
    paths = [tmp_path / name for name in ("a.so", "b.so", "c.so")]
    for path, content in zip(paths, (b"one", b"one", b"other"), strict=True):
        path.write_bytes(content)
    first, same, other = (cache.key_of(replace(without, plugins=path)) for path in paths)
    assert first == same
    assert len({cache.key_of(without), first, other}) == 3


def test_what_the_functions_hold_is_in_the_key() -> None:
    names = {path.name for path in cache._sources().values()}
    assert {"functions.py", "ops.py", "taps.py"} <= names


def test_the_parser_gets_plugin_nodes_and_their_library(
    tensorrt: FakeTrt, file: Path, library: Path
) -> None:
    before = file.read_bytes()
    built = build_engine(file, GRAPH, HERE, plugins=library)
    assert (built.data, built.plugins) == (b"engine", True)
    assert tensorrt.libraries == [str(library)]
    assert isinstance(tensorrt.parsed, onnx.ModelProto)
    own = [n.op_type for n in tensorrt.parsed.graph.node if n.domain == "allfocus"]
    assert tuple(own) == NAMES
    assert file.read_bytes() == before


def test_without_plugins_the_parser_gets_standard_operators(tensorrt: FakeTrt, file: Path) -> None:
    built = build_engine(file, GRAPH, HERE)
    assert built.plugins is False
    assert not tensorrt.libraries
    assert isinstance(tensorrt.parsed, onnx.ModelProto)
    assert {node.domain for node in tensorrt.parsed.graph.node} == {""}
    produced = [name for node in tensorrt.parsed.graph.node for name in node.output]
    assert len(produced) == len(set(produced))


def test_a_net_without_the_operations_needs_no_plugins(
    tensorrt: FakeTrt, tiny: Any, library: Path
) -> None:
    built = build_engine(tiny.frame, GRAPH, HERE, plugins=library)
    assert built.plugins is False
    assert not tensorrt.libraries
    assert tensorrt.parsed == tiny.frame


def test_plugins_that_the_library_lacks_are_told(
    tensorrt: FakeTrt, file: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "_load_library", lambda _path: object())  # of something else
    says = r"cannot read it: IsotropicConv 'blur': Plugin not found; .*\(--plugins off\)"
    with pytest.raises(ArtefactError, match=says):
        build_engine(file, GRAPH, HERE, plugins=library)


@pytest.mark.parametrize("choice", plan.PLUGINS)
def test_the_report_and_the_manifest_tell(
    monkeypatch: pytest.MonkeyPatch,
    tensorrt: FakeTrt,
    library: Path,
    capsys: pytest.CaptureFixture[str],
    choice: str,
) -> None:
    """The net of the catalogue's name is replaced by the one with both operations."""
    assert library.is_file()
    monkeypatch.setattr(Weights, "load", lambda _self, _model: ops_net())
    options = ["--model", "didanet-tiny", "--weights", "random:0", "--size", "64x48"]
    arguments = [*options, "--backend", "tensorrt", "--plugins", choice]
    assert to_trt.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    used = choice != "off"
    assert report["plugins"] is used
    assert read_manifest(Path(report["engine"])).plugins is used
    assert bool(tensorrt.libraries) is used
    onnx_file = onnx.load(report["onnx"])
    assert [f.domain for f in onnx_file.functions] == ["allfocus"] * 4  # runs in ONNX Runtime
    assert to_trt.main(arguments) == 0
    assert (" with plugins" in capsys.readouterr().out) is used
