"""What several test modules share: settings of hypothesis, and didanet-tiny as ONNX files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from allfocus.runtime import probe
from allfocus.runtime.spec import Color, Graph, Io, Spec

if TYPE_CHECKING:
    from plugin_host import Library
    from tiny_graphs import Floats

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("repeatable")


@dataclass(frozen=True)
class Exported:
    """didanet-tiny with random weights: the net, and one ONNX file a face, for any size."""

    net: Any  # torch.nn.Module, float32, in eval mode
    spec: Spec
    float: Path
    frame: Path  # in BGR order


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's cache: each has an empty one of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("ALLFOCUS_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_openvino(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are loaded in ONNX Runtime, in fp32, in every test: which engine is the fastest is
    another thing each time. Only a test marked `openvino` may get OpenVINO, also in "auto".
    """
    if request.node.get_closest_marker("openvino") is None:
        reason = "left out of this test"
        monkeypatch.setitem(probe._CHECKS, "openvino", (("openvino",), lambda: reason))


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the whole run: its processes, where there are several, all have the same."""
    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # one of several processes of pytest-xdist
        folder = folder.parent
    return folder


@pytest.fixture(scope="session", autouse=True)
def exports_are_made_once(shared: Path) -> Iterator[None]:
    """Equal exports by torch are made once a run. Where none of the tests that were collected has
    imported torch, it is not imported for this either."""
    if "torch" not in sys.modules:
        yield
        return
    import torch.onnx
    from export_once import Once

    (shared / "exports").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", Once(torch.onnx.export, shared / "exports"))
        yield


@pytest.fixture
def library() -> Iterator[Library]:
    """The TensorRT plugins compiled for the CPU. A test reads what they log: nothing is left."""
    from plugin_host import open_plugins

    plugins = open_plugins()
    yield plugins
    assert plugins.log() == ""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """didanet-tiny, exported once a session."""
    pytest.importorskip("torch", reason="exporting needs torch")
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    from allfocus.export.to_onnx import export, write
    from allfocus.train.checkpoint import random

    folder = tmp_path_factory.mktemp("tiny")
    net, spec = random("didanet-tiny", seed=1)
    net.eval()
    faces: dict[Io, Path] = {
        "float": folder / "didanet-tiny-fp32.onnx",
        "frame": folder / "didanet-tiny-fp32-frame.onnx",
    }
    for io, path in faces.items():
        color: Color = "rgb" if io == "float" else "bgr"
        write(export(net, spec, Graph(io=io, precision="fp32", color=color, shapes=None)), path)
    return Exported(net, spec, faces["float"], faces["frame"])


@pytest.fixture(scope="session")
def floats(shared: Path) -> Floats:
    """Every phase of every model for any size, float32, float face, each made when asked for."""
    pytest.importorskip("torch", reason="exporting needs torch")
    pytest.importorskip("onnxscript", reason="exporting needs onnxscript")
    from tiny_graphs import Floats

    (shared / "floats").mkdir(exist_ok=True)
    return Floats(shared / "floats")
