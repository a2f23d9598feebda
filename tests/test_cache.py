"""The cache of exports: what changes the key, what spoils a find, and what it costs to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from specs import SPEC

from allfocus.export import cache
from allfocus.export.flavour import Target
from allfocus.export.plan import Plan
from allfocus.export.weights import Weights
from allfocus.runtime.errors import BackendError
from allfocus.runtime.manifest import SCHEMA, Manifest, manifest_path, sha256
from allfocus.runtime.spec import Graph, Shapes, Size

TARGET = Target(flavour="tensorrt-rtx", version="1.7", targets=("sm86", "sm89"), gpu="")
GRAPH = Graph(
    io="frame", precision="fp16", color="rgb", shapes=Shapes(Size(8, 8), Size(16, 8), Size(16, 16))
)
PLAN = Plan(model="didanet-tiny", weights=Weights(None, 0), graph=GRAPH, target=TARGET)


def with_graph(**changes: Any) -> Plan:
    return replace(PLAN, graph=replace(GRAPH, **changes))


def with_target(**changes: Any) -> Plan:
    return replace(PLAN, target=replace(TARGET, **changes))


def made(folder: Path, key: str) -> Path:
    """What an export of PLAN leaves in `folder`: the engine's path."""
    engine, onnx = folder / f"{PLAN.stem}.engine", folder / f"{PLAN.stem}.onnx"
    engine.write_bytes(b"engine" * 99)
    onnx.write_bytes(b"onnx" * 99)
    manifest = Manifest(
        schema=SCHEMA,
        allfocus="0.1.0",
        spec=SPEC,
        graph=GRAPH,
        flavour=TARGET.flavour,
        flavour_version=TARGET.version,
        targets=TARGET.targets,
        key=key,
        engine_sha256=sha256(engine),
        engine_bytes=engine.stat().st_size,
        onnx=onnx.name,
        onnx_sha256=sha256(onnx),
        build_seconds=0.3,
        canary="",
        parity={},
        options={},
    )
    manifest_path(engine).write_text(manifest.to_json(), encoding="utf-8")
    return engine


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAN, model="didanet"),
        replace(PLAN, weights=Weights(None, 1)),
        replace(PLAN, target=None),
        with_graph(io="float"),
        with_graph(precision="fp32"),
        with_graph(color="bgr"),
        with_graph(shapes=Shapes.static(Size(16, 8))),
        with_graph(shapes=Shapes(Size(8, 8), Size(16, 8), Size(32, 16))),
        with_target(flavour="tensorrt"),
        with_target(version="1.8"),
        with_target(targets=("sm86",)),
        with_target(gpu="GeForce RTX 4090"),
    ],
)
def test_every_option_changes_the_key(other: Plan) -> None:
    assert cache.key_of(PLAN) == cache.key_of(replace(PLAN)) != cache.key_of(other)


def test_the_weights_bytes_change_the_key_and_their_place_does_not(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    for path in (first, second):
        path.write_bytes(b"weights")
    keys = [cache.key_of(replace(PLAN, weights=Weights(p))) for p in (first, second)]
    assert keys[0] == keys[1]
    first.write_bytes(b"Weights")
    assert cache.key_of(replace(PLAN, weights=Weights(first))) != keys[0]


@pytest.mark.parametrize("package", cache.PACKAGES)
def test_the_packages_versions_change_the_key(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    before, real = cache.key_of(PLAN), metadata.version
    monkeypatch.setattr(metadata, "version", lambda n: "99.0" if n == package else real(n))
    assert cache.key_of(PLAN) != before


@pytest.mark.parametrize(
    "file",
    ["train/models/didanet.py", "train/checkpoint.py", "export/faces.py", "runtime/spec.py"],
)
def test_the_sources_change_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str
) -> None:
    before, sources = cache.key_of(PLAN), cache._sources()
    (name,) = (n for n, path in sources.items() if path.as_posix().endswith(f"/{file}"))
    changed = tmp_path / "changed.py"
    changed.write_bytes(sources[name].read_bytes() + b"\n")
    monkeypatch.setattr(cache, "_sources", lambda: {**sources, name: changed})
    assert cache.key_of(PLAN) != before


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    with pytest.raises(BackendError, match=r'torch is not installed.*"allfocus\[export\]"'):
        cache.key_of(PLAN)


def test_the_module_of_a_gpu_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """`allfocus[gpu]` brings onnxruntime-gpu, beside which there must be no onnxruntime."""
    real = metadata.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return "1.31.0" if name == "onnxruntime-gpu" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert cache.versions()["onnxruntime-gpu"] == "1.31.0"


def test_each_key_has_a_folder_of_its_own(own_cache: Path) -> None:
    assert cache.folder_of(PLAN, "a" * 64) == own_cache / f"didanet-tiny-{'a' * 16}"
    assert cache.folder_of(PLAN, "b" * 64) != cache.folder_of(PLAN, "a" * 64)


def test_what_was_made_is_found(tmp_path: Path) -> None:
    made(tmp_path, "key")
    found = cache.find(tmp_path, PLAN, "key")
    assert found is not None
    assert (found.spec, found.graph, found.targets) == (SPEC, GRAPH, TARGET.targets)


def test_nothing_is_found_where_nothing_was_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cache.find(tmp_path, PLAN, "key") is None
    made(tmp_path, "another key")
    assert cache.find(tmp_path, PLAN, "key") is None
    assert not caplog.records


def changed_by_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def replaced(path: Path) -> None:
    path.write_bytes(b"\xff\xfe something else")


@pytest.mark.parametrize("suffix", [".engine", ".onnx", ".json"])
@pytest.mark.parametrize("damage", [cut, replaced, Path.unlink, changed_by_a_bit])
def test_what_was_damaged_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None], suffix: str
) -> None:
    engine = made(tmp_path, "key")
    damage(engine.with_suffix(suffix))
    assert cache.find(tmp_path, PLAN, "key") is None
    gone = damage is Path.unlink and suffix == ".engine"
    assert gone or "made again" in caplog.text


def test_asking_imports_nothing_heavy_and_is_quick() -> None:
    code = """
import json, sys, time
start = time.perf_counter()
from allfocus.export import cache, to_trt
from allfocus.export.plan import Options, make_plan
plan, _ = make_plan(Options(model="didanet", weights="random:0", onnx_only=True))
key = cache.key_of(plan)
print(json.dumps([time.perf_counter() - start, key, sorted(sys.modules)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    seconds, key, modules = json.loads(done.stdout)
    heavy = {"torch", "onnx", "onnxscript", "onnxruntime", "tensorrt", "tensorrt_rtx", "cv2"}
    assert not heavy & set(modules)
    assert len(key) == 64
    assert seconds < 3
