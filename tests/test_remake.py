"""The command that errors advise makes the graph that they are about."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from allfocus.runtime.artefacts import packaged_onnx
from allfocus.runtime.cachedir import cache_dir
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.onnx_file import metadata
from allfocus.runtime.remake import engine_command, larger_command
from allfocus.runtime.spec import SPEC_KEY, Graph, Shapes, Size, Spec

LITE = Spec.from_json(metadata(packaged_onnx("didanet-lite"))[SPEC_KEY])
RANGE = Shapes(Size(64, 64), Size(256, 192), Size(640, 480))
ENGINE = Path("/engines of mine/didanet.engine")


def graph(**changed: object) -> Graph:
    usual = Graph(io="frame", precision="fp16", color="rgb", shapes=Shapes.static(Size(640, 480)))
    return replace(usual, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wanted",
    [
        graph(),
        graph(color="bgr", shapes=RANGE),
        graph(io="float", precision="fp32"),
        graph(io="nv12", matrix="bt601", range="full"),
        graph(io="p010", matrix="bt2020"),
        graph(precision="int8", io="frame16"),
        graph(phase="restore", signature=MODELS["didanet-lite"].signatures["restore"]),
    ],
    ids=lambda wanted: f"{wanted.face} {wanted.precision}",
)
def test_the_command_makes_the_same_graph(wanted: Graph) -> None:
    pytest.importorskip("torch", reason="exporting needs torch")
    from allfocus.export import to_trt
    from allfocus.export.plan import make_plan

    words = shlex.split(engine_command(LITE, wanted, ENGINE, "tensorrt-rtx", "--force"))
    assert words[:2] == ["allfocus", "export"]
    parser = argparse.ArgumentParser()
    to_trt.add_arguments(parser)
    args = parser.parse_args(words[2:])
    assert (args.backend, args.out, args.force) == ("tensorrt-rtx", ENGINE.parent, True)
    args.backend, args.onnx_only = "auto", True  # nothing here may be able to build engines
    plan, notes = make_plan(to_trt._options(args))
    assert (plan.model, plan.graph, notes) == ("didanet-lite", wanted, [])
    assert plan.weights.path is not None


def test_weights_that_are_not_the_packages_are_asked_for() -> None:
    def words(spec: Spec) -> str:
        return engine_command(spec, graph(), ENGINE, "tensorrt")

    assert "--weights" not in words(LITE)
    assert " --weights FILE " in words(replace(LITE, weights_sha256="0" * 64))
    assert " --weights FILE " in words(replace(LITE, name="sftnet"))  # the package has none
    drawn = replace(LITE, weights="random weights, seed 7: for tests and timings only")
    assert " --weights random:7 " in words(drawn)


@pytest.mark.parametrize(
    ("file", "backend", "precision", "ends"),
    [
        ("x.onnx", "cpu", "fp32", " --size 1920x1088 --onnx-only --out here"),
        ("x.onnx", "cpu", "int8", " --size 1920x1088 --onnx-only --out here"),
        ("x.onnx", "openvino", "int8", " --size 1920x1088 --onnx-only --for openvino --out here"),
        ("x.engine", "tensorrt", "int8", " --size 1920x1088 --backend tensorrt --out here"),
    ],
)
def test_a_larger_graph_is_for_the_same_engine(
    file: str, backend: str, precision: str, ends: str
) -> None:
    found = larger_command(
        LITE, graph(precision=precision), Path("here") / file, backend, Size(1920, 1088)
    )
    assert found.endswith(f"--precision {precision}{ends}")


def test_the_cache_and_the_package_are_no_place_to_name() -> None:
    for folder in (cache_dir() / "0123", packaged_onnx("x").parent):
        assert "--out" not in larger_command(
            LITE, graph(), folder / "x.onnx", "cpu", Size(1920, 1088)
        )
