"""Frames that a model cannot take: told before any work, with what would help."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_flows import EACH, opener, photo
from tiny_graphs import Floats

from allfocus.runtime.backend import Options
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import LimitError, UsageError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.spec import Precision, Shapes, Size


@pytest.fixture
def opened(floats: Floats, tmp_path: Path) -> Iterator[Any]:
    with opener(floats, tmp_path) as make:
        yield make


def test_an_engine_too_small_for_tiles_says_what_to_export(opened: Any) -> None:
    deblur = opened("didanet-tiny", shape=Size(16, 16))
    with pytest.raises(LimitError, match=r"at most 16x16.*--size 48x40"):
        deblur(photo(40, 45))


def test_an_engine_too_low_for_turned_frames_says_why_they_are(opened: Any) -> None:
    upright = opened("didanet-tiny", shape=Size(96, 16))
    deblur = Deblurrer(upright._backend, phases=upright._phases, ensemble=2)
    assert upright(photo(16, 96)).image.shape == (16, 96, 3)
    said = r"ensemble=2 takes a frame of 96x16 as one of 16x96 too: .*--size"
    with pytest.raises(LimitError, match=said):
        deblur(photo(16, 96))
    with pytest.raises(LimitError, match="at most 96x16") as told:  # as without an ensemble
        deblur(photo(40, 100))
    assert "ensemble" not in str(told.value)


@pytest.mark.parametrize(
    ("precision", "options"),
    [("fp32", "--onnx-only"), ("int8", "--onnx-only --for openvino")],
)
def test_what_to_export_for_openvino_is_what_export_takes(
    opened: Any, precision: Precision, options: str
) -> None:
    """Only 8 bits are written for one engine: with another precision --for is refused."""
    deblur = opened("didanet-tiny", shape=Size(16, 16))
    estimate, _ = deblur._open_phases()
    estimate.name, estimate.graph = "openvino", replace(estimate.graph, precision=precision)
    with pytest.raises(LimitError, match=f"--precision {precision} .*--size 48x40 {options} --out"):
        deblur(photo(40, 45))


def test_a_budget_too_small_for_one_tile_is_refused_before_it_starts(opened: Any) -> None:
    deblur = opened("jdrl-unet-tiny", pixels=100)
    with pytest.raises(LimitError, match=r"too small for one tile .* at least \d+ MiB are needed"):
        deblur(photo(300, 300))
    assert deblur._backend.calls == 0


def test_a_second_phase_without_room_is_refused_before_the_first_has_run(opened: Any) -> None:
    deblur = opened("didanet-tiny")
    estimate, restore = deblur._open_phases()
    estimate.bytes_per_pixel, restore.bytes_per_pixel = 1e-3, 1e12
    for coarse_map in (False, True):
        with pytest.raises(LimitError, match="too small for one tile of didanet-tiny-restore"):
            deblur.variant(skip=1.0, coarse_map=coarse_map)(photo(300, 300))
    assert estimate.calls == restore.calls == deblur._backend.calls == 0


def test_a_checker_without_room_is_refused_before_the_model_has_run(
    opened: Any, floats: Floats
) -> None:
    whole = opened("jdrl-unet-tiny")
    checker = OrtBackend(floats.file("jdrl-reblur-tiny", "whole"), Options(threads=1))
    checker.bytes_per_pixel = 1e9
    with (
        Deblurrer(whole._backend, checker=checker, memory="1GB") as deblur,
        pytest.raises(LimitError, match=r"too small for one tile of jdrl-reblur-tiny"),
    ):
        deblur(photo(100, 100))
    assert whole._backend.calls == checker.calls == 0


def test_a_graph_of_some_sizes_says_what_its_least_one_needs(opened: Any) -> None:
    shapes = Shapes(Size(128, 128), Size(128, 128), Size(320, 320))
    deblur = opened("jdrl-unet-tiny", pixels=100 * 100, shape=shapes)
    with pytest.raises(LimitError, match=r"too small for one tile .* at least \d+ MiB are needed"):
        deblur(photo(300, 310))
    assert deblur._backend.calls == 0


def test_what_is_said_to_be_needed_suffices(opened: Any) -> None:
    """Of two phases each may take all of it, one after the other."""
    deblur = opened("didanet-tiny", pixels=2000)
    frame = photo(300, 300)
    with pytest.raises(
        LimitError, match=r"budget of 2 MiB .*: at least (\d+ MiB) are needed"
    ) as told:
        deblur(frame)
    needed = re.search(r"at least (\d+ MiB)", str(told.value))
    assert needed is not None
    phases = deblur._open_phases
    with Deblurrer(deblur._backend, phases=phases, memory=needed[1], skip="off") as enough:
        enough(frame)


def test_a_net_that_pools_over_the_picture_is_not_cut_without_its_phases(opened: Any) -> None:
    deblur = opened("sftnet-tiny", pixels=10_000)
    deblur = Deblurrer(deblur._backend, memory=deblur.memory)
    with pytest.raises(LimitError, match="averages over the whole picture"):
        deblur(photo(300, 300))


def test_a_graph_of_one_size_that_pools_says_what_to_export(opened: Any) -> None:
    """No memory and no phases would help."""
    deblur = opened("sftnet-tiny", shape=Size(64, 48))
    with pytest.raises(LimitError) as told:
        deblur(photo(65, 101))  # in its phases
    export = "export it larger: `allfocus export --model sftnet-tiny --weights random:0"
    folder = deblur._backend.artefact.parent
    assert str(told.value) == (
        "sftnet-tiny-estimate.onnx averages over the whole picture, and takes at most 64x48, got "
        f"104x68; {export} --phase estimate --precision fp32 --io float --size 104x68 "
        f"--onnx-only --out {folder}`"
    )
    deblur = Deblurrer(deblur._backend, memory=deblur.memory)
    with pytest.raises(LimitError) as told:
        deblur(photo(65, 101))
    assert str(told.value) == (
        "sftnet-tiny-whole.onnx averages over the whole picture, and takes at most 64x48, got "
        f"104x68; {export} --precision fp32 --io float --size 104x68 --onnx-only --out {folder}`"
    )


def test_a_phase_that_pools_is_not_advised_to_be_used(opened: Any) -> None:
    deblur = opened("sftnet-tiny", pixels=10_000)
    deblur._open_phases()[0].bytes_per_pixel = EACH
    with pytest.raises(LimitError, match=r"raise the memory budget, or take a smaller frame$"):
        deblur(photo(300, 300))


def test_a_radius_without_phases_or_without_a_map_is_refused(opened: Any) -> None:
    with pytest.raises(UsageError, match="makes no map"):
        opened("jdrl-unet-tiny", skip=1.0)
    with pytest.raises(UsageError, match="tells what is in focus, not a radius"):
        opened("apl-tiny", skip=1.0)
    whole = opened("didanet-tiny")
    with pytest.raises(UsageError, match="--phase all` makes all three"):
        Deblurrer(whole._backend, skip=1.0)
