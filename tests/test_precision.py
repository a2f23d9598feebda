"""Loading in a precision: which file, which engine, its phases, and what is refused."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_ort import rewritten

import allfocus
from allfocus.runtime import abilities, artefacts, contract, fastest, onnx_file, ways
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.canary import Canary, draw, sampled, size_for
from allfocus.runtime.errors import ArtefactError, BackendError, UsageError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import CANARY_KEY, GRAPH_KEY, LOSS_KEY, SPEC_KEY, Precision

if TYPE_CHECKING:
    from conftest import Exported

pytest.importorskip("onnx", reason="changes ONNX files")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

NAME = "didanet-tiny"
SPEEDS = {"cpu fp32": 4.0, "cpu int8": 1.0, "openvino fp32": 3.0, "openvino bf16": 2.0}
SPEEDS["openvino int8"] = 1.5
FRAME = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
with_openvino = pytest.mark.openvino
needs_bf16 = pytest.mark.skipif(abilities.lacks("bf16"), reason="this CPU does not compute bf16")


def put(
    folder: Path, source: Path, precision: Precision, phase: Any = "whole", **more: str
) -> Path:
    """A file as `allfocus export` names it in the package, which says that it is of `precision`."""
    with OrtBackend(source, Options()) as backend:
        graph = replace(backend.graph, precision=precision)
    stem = NAME if phase == "whole" else f"{NAME}-{phase}"
    suffix = "-int8" if precision == "int8" else ""
    path = folder / f"{stem}{suffix}.onnx"
    return rewritten(source, path, **{GRAPH_KEY: graph.to_json()}, **more)


@pytest.fixture
def both(tmp_path: Path, floats: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package carries didanet-tiny and its phases, in fp32 and as if in 8 bits."""
    folder = tmp_path / "package"
    folder.mkdir()
    for phase in ("whole", "estimate", "restore"):
        for precision in ("fp32", "int8"):
            put(folder, floats.file(NAME, phase), precision, phase, **{LOSS_KEY: "{}"})
    monkeypatch.setattr(artefacts, "packaged_onnx", lambda stem: folder / f"{stem}.onnx")
    return folder


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The milliseconds of each way, instead of this machine's."""
    speeds = dict(SPEEDS)
    label = "{0.name} {0.precision}".format
    monkeypatch.setattr(fastest, "_once", lambda backend: speeds[label(backend)])
    return speeds


def kind(loaded: Any) -> tuple[str, str]:
    return loaded.backend, loaded.precision


@pytest.fixture
def vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that is good at 8 bits, whatever runs this."""
    monkeypatch.setattr(abilities, "describe_cpu", lambda: ("New", ("avx2", "avx512_vnni")))


@pytest.mark.usefixtures("both", "clock", "vnni")
def test_each_precision_on_the_cpu(both: Path) -> None:
    for precision, file in (("fp32", NAME), ("int8", f"{NAME}-int8"), ("auto", f"{NAME}-int8")):
        with allfocus.load(NAME, backend="cpu", precision=precision) as deblur:
            assert deblur._backend.artefact == both / f"{file}.onnx"
            assert deblur.precision == deblur.graph.precision == deblur(FRAME).precision
            assert kind(deblur) == ("cpu", "int8" if "int8" in file else "fp32")
    reasons = allfocus.load(NAME, backend="cpu").reasons
    assert reasons == [("cpu fp32", "4.0 ms for a frame of 128x96, cpu int8 1.0 ms")]
    with allfocus.load_model(NAME, backend="cpu", precision="int8") as model:
        assert kind(model) == ("cpu", "int8")


@with_openvino
@needs_bf16
@pytest.mark.usefixtures("both")
def test_auto_takes_the_fastest_of_all(clock: dict[str, float]) -> None:
    pytest.importorskip("openvino", reason="needs openvino")
    expected = {
        ("auto", "auto"): ("cpu", "int8"),
        ("auto", "fp32"): ("openvino", "fp32"),
        ("auto", "bf16"): ("openvino", "bf16"),
        ("openvino", "auto"): ("openvino", "int8"),
        ("openvino", "int8"): ("openvino", "int8"),
        ("onnxruntime", "auto"): ("cpu", "int8"),
    }
    for (backend, precision), taken in expected.items():
        with allfocus.load(NAME, backend=backend, precision=precision) as deblur:  # type: ignore[arg-type]
            assert kind(deblur) == taken
    with allfocus.load(NAME) as deblur:
        reasons = [each for each in deblur.reasons if each[0].split()[0] in ("cpu", "openvino")]
    about = "for a frame of 128x96, cpu int8 1.0 ms"
    assert reasons == [
        (label, f"{clock[label]} ms {about}")
        for label in ("openvino int8", "openvino bf16", "openvino fp32", "cpu fp32")
    ]


@with_openvino
@pytest.mark.parametrize("precision", ["fp32", "int8", pytest.param("bf16", marks=needs_bf16)])
def test_the_phases_are_of_the_models_precision(both: Path, precision: Any) -> None:
    pytest.importorskip("openvino", reason="needs openvino")
    with allfocus.load(NAME, backend="openvino", precision=precision, skip=0.1) as deblur:
        deblur(FRAME)
        assert {each.precision for each in deblur._opened} == {precision}
        files = {each.graph.precision for each in deblur._opened}
        assert files == {"int8" if precision == "int8" else "fp32"}
        assert all(each.artefact.parent == both for each in deblur._opened)


@pytest.mark.usefixtures("clock")
def test_without_phases_in_8_bits_auto_leaves_them_alone(both: Path) -> None:
    (both / f"{NAME}-restore-int8.onnx").unlink()
    with allfocus.load(NAME, backend="cpu", skip=1.0) as deblur:
        assert deblur.precision == "fp32"
    with allfocus.load(NAME, backend="cpu", precision="int8") as deblur:
        assert deblur.precision == "int8"
    with pytest.raises(UsageError, match="files of both phases"):
        allfocus.load(NAME, backend="cpu", precision="int8", skip=1.0)


def of_other_weights(path: Path) -> None:
    """The same file, as if it had been trained once more."""
    spec = contract.read_contract(path, onnx_file.metadata(path)).spec
    changed = replace(spec, weights_sha256="0" * 64)
    rewritten(path, path, **{SPEC_KEY: changed.to_json()})


@pytest.mark.usefixtures("clock", "vnni")
def test_8_bits_of_other_weights_are_another_model(both: Path) -> None:
    with allfocus.load(NAME, backend="cpu") as deblur:
        assert deblur.precision == "int8"
    of_other_weights(both / f"{NAME}-int8.onnx")
    with allfocus.load(NAME, backend="cpu") as deblur:
        assert deblur.precision == "fp32"


@pytest.mark.parametrize("phase", ["estimate", "restore"])
def test_phases_of_other_weights_are_told_and_left_alone(
    both: Path, phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    of_other_weights(both / f"{NAME}-{phase}.onnx")
    with allfocus.load(NAME, backend="cpu", precision="fp32") as deblur:
        assert deblur(FRAME).image.shape == FRAME.shape
    assert "nothing is passed through: export them all again" in caplog.text
    with pytest.raises(UsageError, match="files of both phases"):
        allfocus.load(NAME, backend="cpu", precision="fp32", skip=1.0)


def test_a_file_in_bf16_says_what_can_run_it(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "lacks", lambda precision: precision == "bf16")
    folder = tmp_path / "bf16"
    folder.mkdir()
    path = put(folder, both / f"{NAME}.onnx", "bf16")
    for backend in ("cpu", "openvino"):
        with pytest.raises(BackendError, match="computes no file of bf16 on this CPU: export it"):
            ways.ways_of_file(path, backend, "auto")


def test_files_in_8_bits_of_the_cache(floats: Any, own_cache: Path) -> None:
    made = put(own_cache, floats.file(NAME, "whole"), "int8")
    (own_cache / "a").mkdir()
    made.rename(own_cache / "a" / f"{NAME}-int8-64x48.onnx")
    with allfocus.load(NAME, backend="cpu", precision="int8") as deblur:
        assert deblur._backend.artefact.stem == f"{NAME}-int8-64x48"
    with pytest.raises(ArtefactError, match="not exported on this machine yet"):
        artefacts.find_onnx(NAME)
    says = (
        f"`allfocus export --model {NAME} --phase restore --precision int8 --for ort --onnx-only`"
    )
    with pytest.raises(ArtefactError, match=says):
        artefacts.find_onnx(NAME, "restore", precision="int8")


@pytest.mark.parametrize("backend", ["cpu", "auto", "onnxruntime"])
def test_8_bits_without_a_file(backend: str) -> None:
    says = r"`allfocus export --model didanet-tiny --precision int8 --for ort --onnx-only`"
    with pytest.raises(ArtefactError, match=says):
        allfocus.load(NAME, backend=backend, precision="int8")


def test_a_file_by_path_has_its_own(both: Path) -> None:
    path = both / f"{NAME}-int8.onnx"
    with allfocus.load(path, precision="int8") as deblur:
        assert kind(deblur) == ("cpu", "int8")
    with pytest.raises(UsageError, match=r"a file of int8.*not computed in fp32.*--precision fp32"):
        allfocus.load(path, precision="fp32")
    with pytest.raises(
        UsageError,
        match=r"a file of fp32, which is not computed in bf16 \(.*cpu: fp32.*backend 'openvino'",
    ):
        allfocus.load(both / f"{NAME}.onnx", backend="onnxruntime", precision="bf16")


@with_openvino
@needs_bf16
def test_a_file_of_fp32_by_path_in_bf16(both: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino")
    with allfocus.load(both / f"{NAME}.onnx", precision="bf16") as deblur:
        assert (*kind(deblur), deblur.graph.precision) == ("openvino", "bf16", "fp32")
        assert ("cpu", "cpu computes a file of fp32 not in bf16") in deblur.reasons


@with_openvino
@needs_bf16
def test_a_net_whose_pictures_bf16_spoils_is_not_computed_in_it() -> None:
    """With AMX it would lose 0.36 dB on the built-in set, which no export has seen; without, a
    thousandth: the kernels are others."""
    if "amx_bf16" in abilities.describe_cpu()[1]:
        with pytest.raises(ArtefactError, match=r"openvino gives 'sharp' off by .* would be wrong"):
            allfocus.load("defocusgan-lite", backend="openvino", precision="bf16")
    with allfocus.load("jdrl-unet-lite", backend="openvino", precision="bf16") as deblur:
        assert deblur.precision == "bf16"


@with_openvino
@pytest.mark.usefixtures("both", "clock")
@pytest.mark.parametrize(
    ("features", "taken", "missing"),
    [
        (("avx2", "avx_vnni"), ("cpu", "int8"), {"openvino bf16"}),
        (("avx2", "fma"), ("openvino", "fp32"), {"openvino bf16", "openvino int8", "cpu int8"}),
    ],
)
def test_a_cpu_without_bf16_or_vnni_runs_the_rest(
    monkeypatch: pytest.MonkeyPatch,
    features: tuple[str, ...],
    taken: tuple[str, str],
    missing: set[str],
) -> None:
    monkeypatch.setattr(abilities, "describe_cpu", lambda: ("Old", features))
    with allfocus.load(NAME) as deblur:
        assert kind(deblur) == taken
        told = {way: why for way, why in deblur.reasons if "no VNNI" in why or "no AVX" in why}
        assert set(told) == missing
    with pytest.raises(BackendError, match=r"no AVX-512 BF16 and no AMX.*fp32"):
        allfocus.load(NAME, backend="openvino", precision="bf16")
    with allfocus.load(NAME, precision="int8") as deblur:  # it is asked for
        assert deblur.precision == "int8"


@pytest.mark.usefixtures("clock", "vnni")
def test_an_engine_that_computes_something_else_is_passed_over(
    both: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = both / f"{NAME}-int8.onnx"
    with OrtBackend(path, Options()) as backend:
        made = sampled(
            backend.run(draw(backend.graph, size_for(backend.graph, 4), 0)), backend.graph
        )
    wrong = Canary(0, {name: values + np.float32(0.05) for name, values in made.items()})
    rewritten(path, path, **{CANARY_KEY: wrong.to_text()})
    with caplog.at_level(logging.WARNING, "allfocus"):
        for _ in range(2):  # also from memory
            with allfocus.load(NAME, backend="cpu") as deblur:
                assert deblur.precision == "fp32"
                assert "its pictures would be wrong" in dict(deblur.reasons)["cpu int8"]
    assert "passed over: cpu int8" in caplog.text
    with pytest.raises(ArtefactError, match="its pictures would be wrong"):
        allfocus.load(NAME, backend="cpu", precision="int8")


def test_the_golden_frame_is_judged_by_what_is_computed_in(floats: Any) -> None:
    """Off by so much in bf16 is rounding, in fp32 it is another engine."""
    from allfocus.runtime import canary

    class Half(OrtBackend):
        precision: Any = "bf16"

    path = floats.file(NAME, "whole")
    with OrtBackend(path, Options()) as backend:
        made = sampled(
            backend.run(draw(backend.graph, size_for(backend.graph, 4), 0)), backend.graph
        )
    for kind_, off, refused in (
        *((OrtBackend, 0.005, True), (Half, 0.005, False), (Half, 0.008, True)),
        (Half, float("nan"), True),
    ):
        loaded: Backend = kind_(path, Options())
        with loaded:
            answers = {name: values + np.float32(off) for name, values in made.items()}
            loaded.canary = Canary(0, answers).to_text()
            if refused:
                with pytest.raises(ArtefactError, match="off by"):
                    canary.check(loaded)
            else:
                canary.check(loaded)


def test_what_a_file_is_of(tiny: Exported, tmp_path: Path) -> None:
    assert ways.precision_of(tiny.float) == "fp32"
    plain = rewritten(tiny.float, tmp_path / "plain.onnx", **{GRAPH_KEY: None})
    with pytest.raises(ArtefactError, match="without allfocus' metadata"):
        ways.precision_of(plain)


@with_openvino
def test_a_file_for_one_engine_alone_comes_first_there(both: Path) -> None:
    for ending in ("", "-estimate", "-restore"):
        general = both / f"{NAME}{ending}-int8.onnx"
        (both / f"{NAME}{ending}-int8-openvino.onnx").write_bytes(general.read_bytes())
    for backend, ending in (("openvino", "-int8-openvino"), ("cpu", "-int8")):
        with allfocus.load(NAME, backend=backend, precision="int8") as loaded:
            assert loaded._backend.artefact.name == f"{NAME}{ending}.onnx"


def test_the_cache_tells_files_for_one_engine_from_others(own_cache: Path, floats: Any) -> None:
    folder = own_cache / f"{NAME}-0"
    folder.mkdir(parents=True)
    for kind in ("int8", "int8-openvino", "fp16"):
        (folder / f"{NAME}-{kind}-600x400.onnx").write_bytes(
            floats.file(NAME, "whole").read_bytes()
        )
    found = {
        (precision, backend): artefacts.find_onnx(NAME, "whole", None, precision, backend)[0].stem
        for precision in ("int8", "auto")
        for backend in ("cpu", "openvino")
    }
    assert found == {
        ("int8", "cpu"): f"{NAME}-int8-600x400",
        ("int8", "openvino"): f"{NAME}-int8-openvino-600x400",
        ("auto", "cpu"): f"{NAME}-fp16-600x400",
        ("auto", "openvino"): f"{NAME}-fp16-600x400",
    }
