"""From a name or a file to a backend, with a reason for each that was not taken."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import allfocus
from allfocus.runtime import artefacts, opening
from allfocus.runtime.abilities import NO_VNNI
from allfocus.runtime.backend import Backend
from allfocus.runtime.errors import (
    ArtefactError,
    BackendError,
    UnknownModelError,
    UsageError,
)
from allfocus.runtime.manifest import SCHEMA, Manifest, manifest_path, read_manifest, sha256
from allfocus.runtime.probe import BACKENDS, Candidate
from allfocus.runtime.spec import Graph, Spec

if TYPE_CHECKING:
    from conftest import Exported

NAME = "didanet-tiny"
GRAPH = Graph(io="frame", precision="fp16", color="bgr", shapes=None)


@dataclass
class World:
    """A pretended machine: which backends work, and which engines TensorRT refuses."""

    usable: set[str]
    refused: set[str]

    def candidate(self, name: str) -> Candidate:
        usable = name in self.usable
        return Candidate(name, usable, "" if usable else f"no {name} on this machine", None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Only the CPU works; TensorRT, once it is made usable, loads any engine it is not told to."""
    made = World({"cpu"}, set())

    class TrtBackend(Backend):
        name = "tensorrt"

        def _load(self) -> tuple[Spec, Graph]:
            manifest = read_manifest(self.artefact)
            if self.artefact.stem in made.refused:
                raise ArtefactError(f"{self.artefact}: made for another GPU")
            return manifest.spec, manifest.graph

        def _run(self, inputs: dict[str, Any]) -> dict[str, Any]:
            return {"sharp": inputs["image"]}

        def _close(self) -> None:
            pass

    module = ModuleType("allfocus.runtime.trt")
    module.TrtBackend = TrtBackend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "allfocus.runtime.trt", module)
    monkeypatch.setattr(opening, "candidate", made.candidate)
    return made


@pytest.fixture
def packaged(tiny: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """didanet-tiny as if the package carried it."""
    path = tmp_path / f"{NAME}.onnx"
    shutil.copy(tiny.float, path)
    monkeypatch.setattr(artefacts, "packaged_onnx", lambda name: tmp_path / f"{name}.onnx")
    return path


def put_engine(
    cache: Path, spec: Spec, stem: str, *, age: int = 0, flavour: Any = "tensorrt"
) -> Path:
    folder = cache / stem
    folder.mkdir()
    engine = folder / f"{stem}.engine"
    engine.write_bytes(stem.encode())
    manifest = Manifest(
        schema=SCHEMA,
        allfocus=allfocus.__version__,
        spec=spec,
        graph=GRAPH,
        flavour=flavour,
        flavour_version="1",
        targets=("sm86",),
        key=stem,
        engine_sha256=sha256(engine),
        engine_bytes=engine.stat().st_size,
        onnx="x.onnx",
        onnx_sha256="",
        build_seconds=1.0,
        canary="",
        parity={},
        options={},
    )
    beside = manifest_path(engine)
    beside.write_text(manifest.to_json())
    os.utime(beside, (10**9 - age, 10**9 - age))
    return engine


def frame() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def test_a_path_to_an_onnx_file(tiny: Exported) -> None:
    for path in (tiny.float, str(tiny.float)):
        with allfocus.load(path) as deblur:
            assert deblur(frame()).image.shape == (9, 14, 3)


@pytest.mark.usefixtures("packaged", "world")
def test_a_name_takes_the_packages_own_file() -> None:
    with allfocus.load(NAME) as deblur:
        assert deblur.backend == "cpu"
        assert deblur.spec.name == NAME
        assert [reason for reason in deblur.reasons if reason != ("cpu int8", NO_VNNI)] == [
            ("tensorrt", "no tensorrt on this machine"),
            ("tensorrt-rtx", "no tensorrt-rtx on this machine"),
            ("cuda", "no cuda on this machine"),
            ("openvino", "no openvino on this machine"),
        ]


@pytest.mark.usefixtures("world")
def test_a_name_takes_the_newest_file_of_the_cache(tiny: Exported, own_cache: Path) -> None:
    for age, stem in ((9, f"{NAME}-fp32"), (1, f"{NAME}-fp16-64x48"), (0, "didanet-fp16")):
        folder = own_cache / stem
        folder.mkdir()
        shutil.copy(tiny.float, folder / f"{stem}.onnx")
        os.utime(folder / f"{stem}.onnx", (10**9 - age, 10**9 - age))
    assert artefacts.find_onnx(NAME)[0].stem == f"{NAME}-fp16-64x48"
    assert artefacts.find_onnx("didanet-tiny")[0].parent != artefacts.find_onnx("didanet")[0].parent
    with allfocus.load(NAME) as deblur:
        assert deblur.backend == "cpu"


@pytest.mark.usefixtures("world")
def test_files_of_other_faces_are_taken_where_they_are_asked_for(
    tiny: Exported, own_cache: Path
) -> None:
    """Frames of 8 bits by name: a newer file for a camera's own does not stand in their way."""
    for age, stem in ((9, f"{NAME}-fp32"), (0, f"{NAME}-nv12-fp32")):
        (own_cache / stem).mkdir()
        shutil.copy(tiny.float, own_cache / stem / f"{stem}.onnx")
        os.utime(own_cache / stem / f"{stem}.onnx", (10**9 - age, 10**9 - age))
    assert artefacts.find_onnx(NAME)[0].stem == f"{NAME}-fp32"
    assert artefacts.find_onnx(NAME, io="nv12")[0].stem == f"{NAME}-nv12-fp32"
    with pytest.raises(ArtefactError, match=f"--model {NAME} --io p010"):
        artefacts.find_onnx(NAME, io="p010")
    put_engine(own_cache, tiny.spec, "eight")
    with pytest.raises(ArtefactError, match=f"--model {NAME} --io nv12 --backend"):
        artefacts.find_engines(NAME, "tensorrt", io="nv12")
    with pytest.raises(UsageError, match=r"the file .* has the face"):
        allfocus.load(tiny.float, io="nv12")
    with pytest.raises(UsageError, match="expected one of frame16, nv12, p010, got 'frame'"):
        allfocus.load(NAME, io="frame")
    with allfocus.load(NAME, io="nv12") as deblur:
        assert deblur.reasons


@pytest.mark.usefixtures("world")
def test_a_name_without_a_file_says_how_to_make_one() -> None:
    with pytest.raises(ArtefactError, match=f"run `allfocus export --model {NAME} --onnx-only`"):
        allfocus.load(NAME)


@pytest.mark.parametrize(("name", "near"), [("didnet", "'didanet'"), ("x", "known: apl, ")])
def test_an_unknown_name_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownModelError, match=f"{name}.*{near}"):
        allfocus.load(name)


@pytest.mark.parametrize("path", ["net.safetensors", "folder/net.pth", Path("didanet"), "", "a/b"])
def test_another_kind_of_file(path: str | Path) -> None:
    with pytest.raises(UsageError, match=r"expected a model's name.*export"):
        allfocus.load(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"none\.onnx: no such"):
        allfocus.load(tmp_path / "none.onnx", backend="cpu")
    with pytest.raises(ArtefactError, match=r"none\.engine: no such"):
        allfocus.load(tmp_path / "none.engine")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"backend": "tensorrtx"}, "unknown backend 'tensorrtx'.*'tensorrt"),
        ({"backend": "gpu"}, "unknown backend 'gpu'"),
        ({"backend": None}, "unknown backend None"),
        ({"backend": ["cpu"]}, r"unknown backend \['cpu'\]"),
        ({"threads": 100_000}, "threads: expected 1024 at most, got 100000"),
        ({"color": "gbr"}, 'expected "bgr" or "rgb"'),
        ({"device": -1}, "0 or more"),
        ({"device": 1, "backend": "cpu"}, "cpu runs on the CPU, and GPU 1 was asked for"),
        ({"device": 1, "backend": "openvino"}, "openvino runs on the CPU, and GPU 1 was asked for"),
        ({"precision": "fp12"}, "precision auto or one of fp32, .*, got 'fp12'"),
        ({"precision": "bf16", "backend": "cpu"}, r"cpu computes in fp32, fp16, int8; choose"),
        ({"precision": "fp8", "backend": "openvino"}, r"openvino computes in fp32, bf16, int8"),
        ({"threads": -2}, "0 or more"),
    ],
)
def test_wrong_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        allfocus.load(NAME, **options)


def test_a_file_for_another_backend(tiny: Exported, own_cache: Path) -> None:
    with pytest.raises(UsageError, match=r"runs in cuda or cpu or openvino, not in 'tensorrt'"):
        allfocus.load(tiny.float, backend="tensorrt")
    engine = put_engine(own_cache, tiny.spec, "a", flavour="tensorrt-rtx")
    for backend in ("cpu", "tensorrt", "onnxruntime"):
        with pytest.raises(UsageError, match=f"runs in tensorrt-rtx, not in '{backend}'"):
            allfocus.load(engine, backend=backend)


@pytest.mark.usefixtures("world")
def test_a_backend_asked_for_must_work(tiny: Exported) -> None:
    with pytest.raises(BackendError, match="no cuda on this machine"):
        allfocus.load(tiny.float, backend="cuda")
    with allfocus.load(tiny.float, backend="onnxruntime") as deblur:
        assert deblur.backend == "cpu"
        assert deblur.reasons == [("cuda", "no cuda on this machine")]


def test_where_nothing_works_every_reason_is_told(world: World) -> None:
    world.usable.clear()
    with pytest.raises(BackendError) as error:
        allfocus.load(NAME)
    for name in BACKENDS:
        assert f"{name}: no {name} on this machine" in str(error.value)


@pytest.mark.usefixtures("world")
def test_a_damaged_file_by_path_is_an_error_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(ArtefactError, match=r"x\.onnx: damaged"):
        allfocus.load(path)


def test_the_newest_engine_is_taken(tiny: Exported, own_cache: Path, world: World) -> None:
    world.usable.add("tensorrt")
    put_engine(own_cache, tiny.spec, "old", age=50)
    newest = put_engine(own_cache, tiny.spec, "new", age=5)
    put_engine(own_cache, tiny.spec, "other-flavour", flavour="tensorrt-rtx")
    with allfocus.load(NAME) as deblur:
        assert deblur.backend == "tensorrt"
        assert deblur._backend.artefact == newest
        assert deblur.reasons == []
        np.testing.assert_array_equal(deblur(frame()).image, frame())


@pytest.mark.parametrize(("given", "limit"), [(None, None), ("1.5GiB", 3 << 29), (7, 7)])
def test_engines_are_held_to_memory_that_is_given(
    tiny: Exported, own_cache: Path, world: World, given: str | int | None, limit: int | None
) -> None:
    world.usable.add("tensorrt")
    put_engine(own_cache, tiny.spec, "new")
    with allfocus.load(NAME, memory=given) as deblur:
        memory = deblur._backend.options.memory
        assert (None if memory is None else memory.limit) == limit
        assert deblur.memory == (limit or 2 << 30)


@pytest.mark.usefixtures("packaged")
def test_no_engine_is_a_reason_with_its_command(world: World) -> None:
    world.usable.add("tensorrt")
    with allfocus.load(NAME) as deblur:
        reason = dict(deblur.reasons)["tensorrt"]
    assert f"allfocus export --model {NAME} --backend tensorrt" in reason
    with pytest.raises(ArtefactError, match="no engine of 'didanet-tiny'"):
        allfocus.load(NAME, backend="tensorrt")


def test_a_refused_engine_is_not_passed_over_in_silence(
    tiny: Exported, own_cache: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.usable.add("tensorrt")
    world.refused.add("new")
    old = put_engine(own_cache, tiny.spec, "old", age=50)
    put_engine(own_cache, tiny.spec, "new")
    with caplog.at_level(logging.WARNING, "allfocus"), allfocus.load(NAME) as deblur:
        assert deblur._backend.artefact == old
        assert [name for name, _ in deblur.reasons] == ["tensorrt"]
    assert len(caplog.records) == 1
    assert "new.engine: made for another GPU" in caplog.text


@pytest.mark.usefixtures("packaged")
def test_a_changed_engine_leaves_the_onnx_file(
    tiny: Exported, own_cache: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.usable.add("tensorrt")
    put_engine(own_cache, tiny.spec, "new").write_bytes(b"now")
    with caplog.at_level(logging.WARNING, "allfocus"), allfocus.load(NAME) as deblur:
        assert deblur.backend == "cpu"
    assert "bytes differ" in dict(deblur.reasons)["tensorrt"]
    assert "bytes differ" in caplog.text


@pytest.mark.usefixtures("packaged")
def test_an_engine_given_by_path_must_load(
    tiny: Exported, own_cache: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.usable.add("tensorrt")
    world.refused.add("new")
    engine = put_engine(own_cache, tiny.spec, "new")
    with pytest.raises(ArtefactError, match="made for another GPU"):
        allfocus.load(engine)
    assert not caplog.records  # the error says it


@pytest.mark.usefixtures("packaged")
def test_a_manifest_that_cannot_be_read_is_told(
    tiny: Exported, own_cache: Path, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.usable.add("tensorrt")
    manifest_path(put_engine(own_cache, tiny.spec, "new")).write_bytes(b"\xff{")
    with allfocus.load(NAME) as deblur:
        assert deblur.backend == "cpu"
    assert "new.json: not JSON" in caplog.text


@pytest.mark.parametrize("model", [None, 3])
def test_what_is_no_model_is_told(model: Any) -> None:
    with pytest.raises(UsageError, match="model: expected a name or a path of a file, got"):
        allfocus.load(model)


@pytest.mark.parametrize("switch", ["check", "canary"])
@pytest.mark.parametrize("value", ["no", 0, None])
def test_switches_are_true_or_false(switch: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{switch}: expected True or False, got"):
        allfocus.load("didanet-nano", **{switch: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("taken", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_is_loaded_stays_in_its_process(taken: Callable[[object], object]) -> None:
    with allfocus.load("didanet-nano", backend="cpu", precision="fp32") as deblur:
        assert repr(deblur) == "<allfocus.Deblurrer didanet-nano, cpu, fp32>"
        with pytest.raises(UsageError, match="neither copied nor sent to another process"):
            taken(deblur)
