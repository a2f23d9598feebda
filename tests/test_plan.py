"""What the export's options mean, and which of them are refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allfocus.export import flavour, weights
from allfocus.export.flavour import Target
from allfocus.export.plan import Options, make_plan
from allfocus.export.weights import Weights
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.errors import (
    BackendError,
    CheckpointError,
    UnknownModelError,
    UsageError,
)
from allfocus.runtime.gpu import Gpu, Gpus
from allfocus.runtime.spec import Graph, Shapes, Size

ABSENT = Gpus((), None, None, "no NVIDIA driver")
PRESENT = Gpus((Gpu(0, "GeForce RTX 4090", "sm89", 24 << 30),), "13.0", "580.95", "")


def install(monkeypatch: pytest.MonkeyPatch, gpus: Gpus, **versions: str) -> None:
    """Pretend that these flavours are installed (dashes as underscores), and these GPUs there."""
    known = {name.replace("_", "-"): version for name, version in versions.items()}
    monkeypatch.setattr(flavour, "installed_version", known.get)
    monkeypatch.setattr(flavour, "find_gpus", lambda: gpus)


def plan(model: str = "didanet-tiny", **options: Any) -> Any:
    return make_plan(
        Options(**{"model": model, "weights": "random:0", "onnx_only": True, **options})
    )


def test_the_defaults_are_the_issues(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ABSENT, tensorrt_rtx="1.7.1")
    made, notes = plan("didanet", onnx_only=False)
    assert made.graph == Graph(
        io="frame", precision="fp16", color="rgb", shapes=Shapes.static(Size(600, 400))
    )
    assert made.target == Target(
        flavour="tensorrt-rtx", version="1.7.1", targets=("sm86", "sm89", "sm120"), gpu=""
    )
    assert (made.stem, notes) == ("didanet-fp16-600x400", [])


@pytest.mark.parametrize(
    ("name", "target", "targets"),
    [
        ("A100", "sm80", ("sm80", "sm86", "sm89", "sm120")),
        ("GeForce RTX 4090", "sm89", ("sm86", "sm89", "sm120")),
        ("H200", "sm90", ("sm86", "sm89", "sm120")),
    ],
)
def test_rtx_builds_for_the_gpus_that_are_here_too(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    target: str,
    targets: tuple[str, ...],
) -> None:
    here = Gpus((Gpu(0, name, target, 1 << 30),), "13.0", "580.95", "")
    install(monkeypatch, here, tensorrt_rtx="1.7.1")
    assert plan(onnx_only=False)[0].target.targets == targets
    assert plan(onnx_only=False, target="sm120")[0].target.targets == ("sm120",)
    told = [r.getMessage() for r in caplog.records if "does not build for GPU 0" in r.getMessage()]
    assert bool(told) == (target == "sm90")
    assert all("(H200, sm90)" in text and "allfocus[trt]" in text for text in told)


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_one_size_is_rounded_up_with_a_note(width: int, height: int) -> None:
    made, notes = plan(size=f"{width}x{height}")
    size = made.graph.shapes.opt
    assert made.graph.shapes.is_static
    assert (size.width % 4, size.height % 4) == (0, 0)
    assert 0 <= size.width - width < 4
    assert 0 <= size.height - height < 4
    assert bool(notes) == (size != Size(width, height))
    assert all(f"rounded up to {size}" in note for note in notes)


def test_a_model_that_takes_any_size_rounds_nothing() -> None:
    made, notes = plan("didanet-released", size="601x401")
    assert (str(made.graph.shapes), notes) == ("601x401", [])


def test_a_range_of_sizes() -> None:
    made, notes = plan(min="64x48", opt="600x400", max="1200x800", io="float", precision="fp32")
    assert made.graph.shapes == Shapes(Size(64, 48), Size(600, 400), Size(1200, 800))
    assert made.stem == "didanet-tiny-fp32-64x48-600x400-1200x800"
    assert not notes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": "600"}, "expected WIDTHxHEIGHT"),
        ({"size": "0x400"}, "at least 1"),
        ({"min": "64x64"}, "--min, --opt and --max"),
        ({"size": "64x64", "min": "8x8", "opt": "8x8", "max": "8x8"}, "either --size"),
        ({"min": "63x64", "opt": "64x64", "max": "64x64"}, "--min 63x64.*multiples of 4.*64x64"),
        ({"min": "64x64", "opt": "32x64", "max": "64x64"}, "64x64 is not within 32x64"),
        ({"io": "float", "color": "bgr"}, "the float face takes RGB only"),
        ({"io": "p010", "color": "bgr"}, "no order of channels"),
        ({"matrix": "bt709"}, "--matrix bt709: the frame face has none"),
        ({"target": "sm86"}, "--onnx-only makes no engine"),
        ({"backend": "tensorrt"}, "--onnx-only makes no engine"),
        ({"weights": "random:x"}, "expected random or random:SEED"),
        ({"weights": f"random:{2**63}"}, "expected random or random:SEED"),
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan(**options)


def test_an_unknown_model_offers_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'didanet'"):
        plan("didanets")


def test_a_phase_has_its_own_signature_and_name() -> None:
    made, _ = plan("sftnet-tiny", weights="random", phase="restore", onnx_only=True)
    assert made.graph.signature.inputs == ("image", "defocus", "context")
    assert made.stem == "sftnet-tiny-restore-fp16-600x400"


def test_a_decoders_face_has_even_sizes_and_its_own_name() -> None:
    made, notes = plan("didanet-released", size="601x401", io="nv12", matrix="bt601", range="full")
    assert (str(made.graph.shapes), len(notes)) == ("602x402", 1)
    assert made.graph.face == "nv12 bt601 full"
    assert made.stem == "didanet-released-nv12-fp16-602x402"


def test_an_unknown_phase_names_those_of_the_model() -> None:
    with pytest.raises(UsageError, match="jdrl-unet-tiny has no phase 'restore': known: whole"):
        plan("jdrl-unet-tiny", weights="random", phase="restore", onnx_only=True)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"fp32_layers": "a", "precision": "fp32"}, "for fp16, bf16, int8, fp8 only"),
        ({"fp32_layers": "a,,b"}, "expected layers such as"),
        ({"fp32_layers": "auto,b"}, "or auto alone"),
    ],
)
def test_wrong_fp32_layers(given: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        plan("didanet-tiny", weights="random", onnx_only=True, **given)


def test_weights_are_a_file_or_random(tmp_path: Any) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"weights")
    assert weights.parse("random", "didanet") == Weights(None, 0)
    assert weights.parse("random:7", "didanet").identity() == "random:7"
    assert weights.parse(str(file), "didanet") == Weights(file)
    before = Weights(file).identity()
    file.write_bytes(b"Weights")
    assert Weights(file).identity() != before


def test_a_file_of_weights_that_is_not_there(tmp_path: Any) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pth: no such file"):
        weights.parse(str(tmp_path / "gone.pth"), "didanet")


def test_without_trained_weights_random_ones_stand_in_with_a_warning(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weights, "packaged_weights", lambda model: tmp_path / model)
    assert weights.parse(None, "didanet") == Weights(None)
    assert "no trained weights of 'didanet'" in caplog.text
    caplog.clear()
    (tmp_path / "didanet").write_bytes(b"")
    assert weights.parse(None, "didanet") == Weights(tmp_path / "didanet")
    assert not caplog.text


@pytest.mark.parametrize(
    ("gpus", "installed", "target", "taken"),
    [
        (PRESENT, {"tensorrt": "10.13", "tensorrt_rtx": "1.7"}, None, "tensorrt"),
        (ABSENT, {"tensorrt": "10.13", "tensorrt_rtx": "1.7"}, None, "tensorrt-rtx"),
        (PRESENT, {"tensorrt_rtx": "1.7"}, None, "tensorrt-rtx"),
        (PRESENT, {"tensorrt": "10.13", "tensorrt_rtx": "1.7"}, "sm120", "tensorrt-rtx"),
    ],
)
def test_auto(
    monkeypatch: pytest.MonkeyPatch,
    gpus: Gpus,
    installed: dict[str, str],
    target: str | None,
    taken: str,
) -> None:
    install(monkeypatch, gpus, **installed)
    assert flavour.choose("auto", target).flavour == taken


@pytest.mark.parametrize("installed", [{}, {"tensorrt": "10.13"}])
def test_auto_names_both_extras(monkeypatch: pytest.MonkeyPatch, installed: dict[str, str]) -> None:
    install(monkeypatch, ABSENT, **installed)
    with pytest.raises(BackendError, match=r"allfocus\[trt-rtx\].*allfocus\[trt\]"):
        flavour.choose("auto", None)


@pytest.mark.parametrize(("backend", "extra"), [("tensorrt", "trt"), ("tensorrt-rtx", "trt-rtx")])
def test_a_missing_flavour_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, backend: str, extra: str
) -> None:
    install(monkeypatch, PRESENT)
    with pytest.raises(BackendError, match=rf'pip install "allfocus\[{extra}\]"'):
        flavour.choose(backend, None)


def test_tensorrt_builds_for_the_gpu_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PRESENT, tensorrt="10.13")
    chosen = flavour.choose("tensorrt", None)
    assert (chosen.targets, chosen.gpu) == (("sm89",), "GeForce RTX 4090")
    with pytest.raises(UsageError, match="the GPU that is present"):
        flavour.choose("tensorrt", "sm89")


def test_tensorrt_without_a_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ABSENT, tensorrt="10.13")
    with pytest.raises(BackendError, match=r"no NVIDIA driver.*--backend tensorrt-rtx"):
        flavour.choose("tensorrt", None)


def test_targets_are_a_list_without_repeats() -> None:
    assert flavour.parse_targets("SM89, sm86,sm89") == ("sm89", "sm86")


@pytest.mark.parametrize("text", ["", "sm90", "sm86,,sm89", "89"])
def test_unknown_targets_are_refused_with_the_list(text: str) -> None:
    with pytest.raises(UsageError, match="sm75, sm80, sm86, sm89, sm120, sm121"):
        flavour.parse_targets(text)


def test_an_unknown_backend_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'tensorrt'"):
        flavour.choose("tensorr", None)


@pytest.mark.parametrize("name", MODELS)
def test_the_catalogues_multiple_is_the_nets(name: str) -> None:
    from allfocus.train.models import build

    assert build(name).multiple == MODELS[name].multiple


@pytest.mark.parametrize(
    ("precision", "target", "able"),
    [
        ("fp8", "sm75", "fp32, fp16, int8"),
        ("bf16", "sm75,sm89", "fp32, fp16, int8"),
        ("fp8", "sm86", "fp32, fp16, bf16, int8"),
    ],
)
def test_a_precision_that_a_gpu_cannot_run_is_refused(
    precision: str, target: str, able: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, ABSENT, tensorrt_rtx="1.7.1")
    unable = target.partition(",")[0]
    with pytest.raises(UsageError, match=f"{precision}: {unable} cannot.* expected one of {able},"):
        plan(precision=precision, target=target, onnx_only=False)


def test_eight_bits_are_written_for_the_engine_that_runs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, ABSENT, tensorrt_rtx="1.7.1")
    assert plan(precision="int8")[0].reduction.dialect == "ort"
    assert plan(precision="int8", onnx_only=False)[0].reduction.dialect == "trt"
    assert plan(precision="fp8", target="sm89", onnx_only=False)[0].reduction.dialect == "fp8"
    own = plan(precision="auto", purpose="openvino", max_loss="0.05dB")[0]
    assert (own.reduction.search, own.reduction.max_loss) == (True, 0.05)
    assert own.graph.precision == "int8"
    assert own.stem == "didanet-tiny-int8-openvino-600x400"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8", "purpose": "ort", "onnx_only": False}, "--onnx-only too"),
        ({"precision": "fp8", "purpose": "ort"}, "no CPU computes convolutions in it"),
        ({"precision": "fp16", "purpose": "ort"}, "--for with --precision fp16"),
        ({"precision": "fp32", "max_loss": "0.1"}, "--max-loss with --precision fp32"),
        ({"precision": "int8", "max_loss": "a bit"}, "expected decibels"),
        ({"precision": "int8", "max_loss": "-1dB"}, "expected decibels"),
        ({"precision": "int8", "method": "max"}, "unknown --method 'max'"),
        ({"precision": "int8", "purpose": "gpu"}, "unknown --for 'gpu'"),
        ({"precision": "int8", "fp32_layers": "auto"}, "--precision auto finds the layers"),
        ({"precision": "fp32", "fp32_layers": "tail"}, "for fp16, bf16, int8, fp8 only"),
    ],
)
def test_options_of_eight_bits_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(**options)


def test_ranges_come_from_one_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    both = {"ranges": tmp_path / "a.json", "calibrate": tmp_path}
    with pytest.raises(UsageError, match="give one"):
        plan(precision="int8", **both)
    with pytest.raises(UsageError, match="--method with --ranges"):
        plan(precision="int8", ranges=tmp_path / "a.json", method="minmax")


def test_files_and_targets_are_looked_at_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing is installed that builds an engine: that would be the next problem."""
    monkeypatch.setattr(flavour, "installed_version", lambda _: None)
    with pytest.raises(UsageError, match=r"--calibrate .*none: expected a folder of photos"):
        plan(precision="int8", calibrate=tmp_path / "none")
    with pytest.raises(UsageError, match=r"--ranges .*: expected a file that an export has"):
        plan(precision="int8", ranges=tmp_path)
    with pytest.raises(UsageError, match="sm75 cannot, that takes sm89"):
        plan(precision="fp8", target="sm75", onnx_only=False)
    with pytest.raises(UsageError, match="unknown 'sm99'"):
        plan(precision="fp16", target="sm99", onnx_only=False)
    with pytest.raises(UsageError, match="--for ort makes no engine"):
        plan(precision="int8", purpose="ort", onnx_only=False)
    with pytest.raises(BackendError, match="nothing here can build an engine"):
        plan(precision="fp8", target="sm89", onnx_only=False)
