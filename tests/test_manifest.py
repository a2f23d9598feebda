"""The manifest beside an engine: nothing about the engine may have changed unseen."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import SPEC

from allfocus.runtime.errors import ArtefactError
from allfocus.runtime.manifest import SCHEMA, Manifest, manifest_path, read_manifest, sha256
from allfocus.runtime.spec import Graph, Shapes, Size

ENGINE = bytes(range(256)) * 8


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "didanet-tiny-fp16-64x48.engine"
    path.write_bytes(ENGINE)
    manifest_path(path).write_text(make(path).to_json())
    return path


def make(engine: Path) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        allfocus="0.1.0",
        spec=SPEC,
        graph=Graph(io="frame", precision="fp16", color="bgr", shapes=Shapes.static(Size(64, 48))),
        flavour="tensorrt-rtx",
        flavour_version="1.7.1.116",
        targets=("sm86", "sm89"),
        key="1" * 64,
        engine_sha256=sha256(engine),
        engine_bytes=engine.stat().st_size,
        onnx="didanet-tiny-fp16-64x48.onnx",
        onnx_sha256="2" * 64,
        build_seconds=0.3,
        canary="",
        parity={"max_abs": 1e-5, "mean_abs": 1e-6, "psnr_db": 90.0},
        options={"level": 3, "strip": False},
    )


def edit(engine: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(manifest_path(engine).read_text())
    change(data)
    manifest_path(engine).write_text(json.dumps(data))


def test_a_manifest_comes_back_from_its_file(engine: Path) -> None:
    assert read_manifest(engine) == make(engine)


@pytest.mark.parametrize(
    ("options", "expected"), [({}, False), ({"plugins": False}, False), ({"plugins": True}, True)]
)
def test_whether_plugins_are_needed(options: dict[str, bool], expected: bool) -> None:
    manifest = replace(Manifest.from_json(_TEXT), options=options)  # type: ignore[arg-type]
    assert Manifest.from_json(manifest.to_json()).plugins is expected


@given(st.text(), st.lists(st.text(), max_size=3))
def test_a_manifest_comes_back_from_its_text(key: str, targets: list[str]) -> None:
    base = Manifest.from_json(_TEXT)
    manifest = replace(base, key=key, targets=tuple(targets))
    assert Manifest.from_json(manifest.to_json()) == manifest


@given(position=st.integers(0, len(ENGINE) - 1), flip=st.integers(1, 255))
def test_one_changed_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    engine = tmp_path_factory.mktemp("changed") / "x.engine"
    engine.write_bytes(ENGINE)
    manifest_path(engine).write_text(make(engine).to_json())
    changed = bytearray(ENGINE)
    changed[position] ^= flip
    engine.write_bytes(changed)
    with pytest.raises(ArtefactError, match=r"bytes differ.*allfocus export --force"):
        read_manifest(engine)


@pytest.mark.parametrize("length", [0, 1, len(ENGINE) - 1, len(ENGINE) + 1])
def test_another_length_is_noticed(engine: Path, length: int) -> None:
    engine.write_bytes((ENGINE + b"\0")[:length])
    with pytest.raises(ArtefactError, match=f"{length} bytes.*{len(ENGINE)}.*cut short"):
        read_manifest(engine)


def test_a_missing_engine(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no such engine.*allfocus export"):
        read_manifest(tmp_path / "none.engine")


def test_a_missing_manifest(engine: Path) -> None:
    manifest_path(engine).unlink()
    with pytest.raises(ArtefactError, match=r"manifest .*\.json is missing.*allfocus export"):
        read_manifest(engine)


@pytest.mark.parametrize("schema", [0, 1, 3, "2", None])
def test_another_schema(engine: Path, schema: object) -> None:
    edit(engine, lambda data: data.update(schema=schema))
    with pytest.raises(ArtefactError, match=f"schema {schema!r}, this version reads {SCHEMA}"):
        read_manifest(engine)


def test_an_unknown_key(engine: Path) -> None:
    edit(engine, lambda data: data.update(colour="red"))
    with pytest.raises(ArtefactError, match=r"manifest .*\.json: .*unknown keys \['colour'\]"):
        read_manifest(engine)


def test_an_unknown_key_of_the_spec(engine: Path) -> None:
    edit(engine, lambda data: data["spec"].update(colour="red"))
    with pytest.raises(ArtefactError, match=r"spec: .*unknown keys \['colour'\]"):
        read_manifest(engine)


@pytest.mark.parametrize("key", sorted(json.loads(Manifest.to_json(make(Path(__file__))))))
def test_a_missing_key(engine: Path, key: str) -> None:
    edit(engine, lambda data: data.pop(key))
    with pytest.raises(ArtefactError, match=key):
        read_manifest(engine)


def test_a_missing_key_of_the_graph_names_the_file(engine: Path) -> None:
    edit(engine, lambda data: data["graph"].pop("phase"))
    with pytest.raises(ArtefactError, match=r"manifest .*\.json: Graph: missing keys .*phase"):
        read_manifest(engine)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"schema": 1}', pytest.param("[" * 100_000, id="deep")]
)
def test_text_that_is_no_manifest(engine: Path, text: str) -> None:
    manifest_path(engine).write_text(text)
    with pytest.raises(ArtefactError, match="manifest"):
        read_manifest(engine)


def test_bytes_that_are_no_text(engine: Path) -> None:
    manifest_path(engine).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtefactError, match="manifest"):
        read_manifest(engine)


@pytest.mark.parametrize(
    ("key", "value"),
    [("engine_bytes", "many"), ("flavour", "cuda"), ("targets", "sm86"), ("parity", None)],
)
def test_a_value_of_the_wrong_type(engine: Path, key: str, value: object) -> None:
    edit(engine, lambda data: data.update({key: value}))
    with pytest.raises(ArtefactError, match=rf"manifest .*\.json: {key}: expected"):
        read_manifest(engine)


_TEXT = make(Path(__file__)).to_json()
