"""What holds for every model alike: each phase as a graph, in ONNX Runtime and as an engine.

The small variants stand for their designs; `make test-all` builds the engines of the others, and
does what takes long and is seldom alone to fail.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_graphs import Floats, exported, graph_of, halves_of

import allfocus
from allfocus.export import cache, samples, to_trt
from allfocus.export.builder import build_engine
from allfocus.export.flavour import RTX_TARGETS, Target
from allfocus.export.half import run_in_half
from allfocus.export.lower import layers
from allfocus.export.plan import Options, make_plan
from allfocus.export.samples import read_photo
from allfocus.runtime.catalogue import MODELS, entry
from allfocus.runtime.signature import KINDS, Phase
from allfocus.runtime.spec import Shapes, Size
from allfocus.train import checkpoint

TINY = [name for name in MODELS if name.endswith("-tiny")]
# Exporting them takes long, since they have so many layers, and they are of the same ones.
LARGE, TWIN = "defocusgan-tiny", "dualpixel-map-tiny"


def but(cases: list[Any], slow: list[Any]) -> list[Any]:
    """The cases for parametrize; those that are `slow` only in `make test-all`."""
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [
        pytest.param(*value, marks=pytest.mark.full if case in slow else ())
        for case, value in zip(cases, values, strict=True)
    ]


PHASES = [(name, phase) for name in TINY for phase in MODELS[name].signatures]
CUT = [(name, phase) for name, phase in PHASES if name in (LARGE, TWIN) and phase != "whole"]
# What a second phase adds to an engine is a map as an input, which one model's shows.
PARTS = [(name, phase) for name, phase in PHASES if phase != "whole" and name != "sftnet-tiny"]
SECOND = [n for n in TINY if "restore" in MODELS[n].signatures]
TARGET = Target(flavour="tensorrt-rtx", version="", targets=("sm86", "sm89", "sm120"), gpu="")


@pytest.mark.parametrize(("name", "phase"), but(PHASES, [(TWIN, "whole"), *CUT]))
def test_a_phase_of_any_size_computes_what_the_net_does(
    name: str, phase: Phase, floats: Floats
) -> None:
    assert floats.figures(floats.file(name, phase))["max_abs"] <= 1e-4


@pytest.mark.rtx
@pytest.mark.parametrize(("name", "phase"), but(PHASES, [(TWIN, "whole"), *PARTS]))
def test_a_phase_for_frames_in_half_precision_becomes_an_engine(
    name: str, phase: Phase, floats: Floats
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    path = floats.half(name, phase)
    figures = floats.figures(path)
    assert min(figures["psnr_db"], figures["float16_psnr_db"]) >= 50
    assert build_engine(path, halves_of(name, phase), TARGET).data


@pytest.mark.rtx
@pytest.mark.parametrize("name", but(SECOND, [LARGE, TWIN]))
def test_a_second_phase_becomes_an_engine_for_a_range_of_sizes(name: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    step = entry(name).multiple
    sizes = (Size(2 * step, 2 * step), Size(4 * step, 3 * step), Size(8 * step, 6 * step))
    graph = graph_of(name, "restore", "frame", "fp32", Shapes(*sizes))
    exported(name, graph, tmp_path / "x.onnx")
    assert build_engine(tmp_path / "x.onnx", graph, TARGET).data


@pytest.mark.parametrize("name", but(SECOND, [LARGE, TWIN]))
def test_the_phases_one_after_the_other_are_the_whole_at_an_odd_size(
    name: str, floats: Floats
) -> None:
    photo = read_photo(Size(61, 43)).astype(np.float32) / 255
    known = {"image": photo, "left": photo, "right": np.roll(photo, 2, axis=1)}
    whole = ran(floats.file(name, "whole"), known)
    for phase in ("estimate", "restore"):
        known |= ran(floats.file(name, phase), known)
    for output, expected in whole.items():
        assert expected.shape[:2] == (43, 61)
        cut = np.maximum(known[output][:43, :61], 0)
        tolerance = 1e-4 * max(1.0, float(expected.max()))
        assert np.abs(cut - np.maximum(expected, 0)).max() <= tolerance, output


def ran(path: Path, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with allfocus.load_model(path, color="rgb") as model:
        return model(**{n: known[n] for n in model.graph.signature.inputs})


@pytest.mark.parametrize("name", TINY)
def test_a_step_of_training_moves_every_parameter(name: str) -> None:
    net, _ = checkpoint.random(name, 0)
    net.train()
    step = net.multiple
    pictures = entry(name).signatures["whole"].inputs
    generator = torch.Generator().manual_seed(0)
    given = [torch.rand(2, 3, 4 * step, 4 * step, generator=generator) for _ in pictures]
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    before = {key: value.detach().clone() for key, value in net.named_parameters()}
    outputs = net.run("whole", *given)
    sum(((o - 0.3).square().mean() for o in outputs), start=torch.zeros(())).backward()
    optimizer.step()
    still = [key for key, value in net.named_parameters() if torch.equal(before[key], value)]
    assert not still


@pytest.mark.parametrize("name", TINY)
def test_every_other_layer_may_stay_float32(name: str) -> None:
    net, _ = checkpoint.random(name, 0)
    net.eval()
    signature = entry(name).signature("whole")
    given = list(samples.inputs(net, signature, Size(32, 32).padded(net.multiple)).values())
    with torch.no_grad():
        expected = net.run("whole", *given)
    for kept in (list(layers(net))[::2], list(layers(net))[1::2]):
        for found, reference in zip(run_in_half(net, "whole", given, kept), expected, strict=True):
            assert (found - reference).abs().max() < 2e-2


@pytest.mark.parametrize("name", MODELS)
def test_what_restore_takes_beside_pictures_is_what_estimate_gives(name: str) -> None:
    signatures = MODELS[name].signatures
    assert ("estimate" in signatures) == ("restore" in signatures)
    if "restore" in signatures:
        first, second = signatures["estimate"], signatures["restore"]
        pictures = tuple(n for n in second.inputs if KINDS[n] == "picture")
        assert (pictures, second.inputs[len(pictures) :]) == (first.inputs, first.outputs)
        assert set(signatures["whole"].outputs) <= {*first.outputs, *second.outputs}


@pytest.mark.parametrize(
    "name", but([n for n in TINY if MODELS[n].signatures["whole"].deblurs], [LARGE])
)
def test_a_photo_is_deblurred_by_the_models_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    from allfocus import cli

    sizes = [Size(53, 37), Size(3, 2), Size(1, 1)]  # odd, under every halo, under the multiple
    for size in sizes:
        assert cv2.imwrite(str(tmp_path / f"{size}.png"), read_photo(size))
    assert to_trt.main(["--model", name, "--onnx-only", "--precision", "fp32"]) == 0
    pictures = [str(tmp_path / f"{size}.png") for size in sizes]
    assert cli.main(["deblur", *pictures, "-o", str(tmp_path / "out"), "--model", name]) == 0
    captured = capsys.readouterr()
    assert "random weights, seed 0" in captured.err  # nobody takes them for trained ones
    for size in sizes:
        sharp = cv2.imread(str(tmp_path / "out" / f"{size}.png"))
        assert sharp is not None
        assert sharp.shape == (size.height, size.width, 3)


@pytest.mark.parametrize(
    "name", but([n for n in TINY if not MODELS[n].signatures["whole"].deblurs], [TWIN])
)
def test_what_is_not_a_deblurrer_is_refused_by_name_and_by_file(name: str, floats: Floats) -> None:
    for model in (name, floats.file(name, "whole")):
        with pytest.raises(allfocus.AllfocusError, match=r"not a deblurrer.*load_model"):
            allfocus.load(model)


@pytest.mark.full
@pytest.mark.rtx
def test_all_full_size_engines_are_built_within_a_minute() -> None:
    """Every deblurrer's whole graph at 600x400 in fp16, for three generations; parity included."""
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    names = [n for n in MODELS if n not in TINY and MODELS[n].signatures["whole"].deblurs]
    seconds = {}
    for name in names:
        plan, _ = make_plan(Options(model=name, weights="random:0", backend="tensorrt-rtx"))
        seconds[name] = to_trt.export(plan)["seconds"]["build"]
        assert cache.find(cache.folder_of(plan, cache.key_of(plan)), plan, cache.key_of(plan))
    assert sum(seconds.values()) <= 60, seconds


@pytest.mark.full
@pytest.mark.rtx
@pytest.mark.parametrize(
    ("name", "phase"),
    [(n, p) for n in MODELS if n not in TINY for p in MODELS[n].signatures if p != "whole"],
)
def test_full_size_phases_become_engines(name: str, phase: Phase, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    graph = halves_of(name, phase)
    exported(name, graph, tmp_path / "x.onnx")
    assert set(TARGET.targets) <= set(RTX_TARGETS)
    assert build_engine(tmp_path / "x.onnx", graph, TARGET).data
