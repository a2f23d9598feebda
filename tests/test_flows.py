"""Frames in tiles, and with parts left out, against the same frames at once, for every model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_graphs import Floats, exported, graph_of

import allfocus
from allfocus.runtime import flows
from allfocus.runtime.backend import Backend, Options
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.clock import Clock
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import ArtefactError, LimitError, UsageError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.signature import Phase
from allfocus.runtime.skip import FADE, FOCUS, REACH, Choice
from allfocus.runtime.spec import Precision, Shapes, Size
from allfocus.runtime.stage import Stage
from allfocus.runtime.tiling import Window
from allfocus.train.models import build
from allfocus.train.models.didanet import MAX_RADIUS

Array = NDArray[Any]

TINY = [n for n, m in MODELS.items() if n.endswith("-tiny") and m.signature("whole").deblurs]
CUT = [n for n, m in MODELS.items() if "restore" in m.signatures]
SMALL = ["didanet-tiny", "sftnet-tiny", "jdrl-unet-tiny", "apl-tiny"]
LARGE = [
    pytest.param(name, marks=pytest.mark.full)  # exporting them takes long
    for name, model in MODELS.items()
    if name not in SMALL and model.signature("whole").deblurs
]
SEEN = ["didanet-tiny", "sftnet-tiny", "apl-tiny"]  # those with a map
EACH = 1000.0  # bytes a pixel, in these tests
EXACT: dict[str, Any] = {"backend": "cpu", "precision": "fp32"}  # other precisions differ by more


@pytest.fixture
def opened(floats: Floats, tmp_path: Path) -> Iterator[Any]:
    """Make a Deblurrer of a tiny model, closed at the end; `pixels`: of the largest tile."""

    def sized(name: str, phase: Phase, shape: Size | Shapes) -> Path:
        path = tmp_path / f"{name}-{phase}.onnx"
        shapes = Shapes.static(shape) if isinstance(shape, Size) else shape
        graph = graph_of(name, phase, "float", "fp32", shapes)
        exported(name, graph, path)
        return path

    with ExitStack() as stack:

        def make(
            name: str,
            pixels: int = 10**9,
            skip: Choice = "off",
            halo: int | None = None,
            shape: Size | Shapes | None = None,
        ) -> Deblurrer:
            def load(phase: Phase) -> Backend:
                path = floats.file(name, phase) if shape is None else sized(name, phase, shape)
                backend = OrtBackend(path, Options(threads=1))
                pooled = "context" in backend.graph.signature.outputs
                # A frame that fits at once is not cut, and what pools must see all of it.
                whole = 4 if name in CUT else 1
                backend.bytes_per_pixel = (
                    1e-3 if pooled else EACH * (whole if phase == "whole" else 1)
                )
                if halo is not None:
                    backend.spec = replace(backend.spec, halo=halo)
                return backend

            both = (lambda: (load("estimate"), load("restore"))) if name in CUT else None
            memory = int(pixels * (EACH + 40))
            deblur = Deblurrer(load("whole"), phases=both, memory=memory, skip=skip)
            return stack.enter_context(deblur)

        yield make


def lane(deblur: Deblurrer) -> Any:
    """What its one call at a time works with."""
    with deblur._lanes.one() as found:
        return found


def photo(height: int, width: int, dtype: type = np.uint8) -> Array:
    """Something with edges and noise: what a wrong margin would show in."""
    rng = np.random.default_rng(height)
    coarse = rng.random((height // 16 + 1, width // 16 + 1, 3))
    image = 0.8 * np.kron(coarse, np.ones((16, 16, 1)))[:height, :width]
    image += 0.2 * rng.random((height, width, 3))
    return (image * (255 if dtype == np.uint8 else 1)).astype(dtype)


def awkward(name: str) -> tuple[int, int, int]:
    """Height and width that are no multiples, and pixels of a tile that makes several."""
    margin = 240 if name == "defocusgan-tiny" else 40
    if name not in TINY:
        net = build(name)
        margin = max(net.halos.values()) + net.multiple
    side = 2 * margin + 32
    return side + 45, side + 77, side**2


def test_what_exceeds_its_share_has_all_memory_and_leaves_nothing(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[str] = []
    monkeypatch.setattr(OrtBackend, "release", lambda self: released.append(self.graph.phase))
    deblur = opened("didanet-tiny", pixels=2 * 64 * 64)
    deblur(photo(64, 64))
    assert released == []  # half of it suffices each phase
    deblur(photo(64, 80))
    # The estimator looks far, and tiles would cost it much; the rest is done in two within a half.
    assert released == ["whole", "estimate", "restore", "estimate"]


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_tiled_equals_untiled(opened: Any, name: str) -> None:
    height, width, pixels = awkward(name)
    whole, tiled = opened(name), opened(name, pixels)
    for dtype in (np.float32, np.uint8):
        frame = photo(height, width, dtype)
        one, other = whole(frame), tiled(frame)
        difference = np.abs(one.image.astype(np.float64) - other.image)
        assert np.abs(one.image.astype(np.float64) - frame).max() > 0.01  # it does something
        if dtype == np.float32:
            assert difference.max() <= 1e-5
        else:
            assert difference.max() <= 1
            assert (difference > 0).mean() < 1e-3
        for plane in ("defocus", "focus"):
            if getattr(one, plane) is not None:
                expected = getattr(one, plane)
                np.testing.assert_allclose(getattr(other, plane), expected, atol=1e-4)
    if name in CUT:
        assert lane(tiled)._phased
        assert not lane(whole)._phased
    else:
        assert not lane(tiled).direct.fits(Size(width, height))


@pytest.mark.parametrize("name", ["didanet-tiny", "jdrl-unet-tiny"])
def test_a_wrong_halo_shows(opened: Any, name: str) -> None:
    frame = photo(*awkward(name)[:2], np.float32)
    one, other = opened(name)(frame), opened(name, awkward(name)[2], halo=1)(frame)
    assert np.abs(one.image - other.image).max() > 1e-3


@pytest.mark.parametrize("name", SEEN)
def test_what_is_not_skipped_is_what_the_whole_frame_gives(opened: Any, name: str) -> None:
    """Equal where the map is above the level, the input where it is far from it."""
    frame = photo(150, 203, np.float32)
    whole = opened(name)(frame)
    plane = whole.defocus if whole.focus is None else whole.focus
    if whole.focus is None:
        skip: Choice = float(np.median(plane))
        active = plane > skip
    else:
        skip, active = "auto", plane < FOCUS
    parts = opened(name, skip=skip)
    result = parts(frame)
    far = cv2.dilate(active.astype(np.uint8), np.ones((2 * FADE + 1,) * 2)) == 0
    np.testing.assert_allclose(result.image[active], whole.image[active], atol=1e-5)
    np.testing.assert_array_equal(result.image[far], frame[far])
    assert 0 <= result.skipped < 1
    assert active.any()


@pytest.mark.parametrize("pixels", [10**9, 350 * 350])
def test_what_lies_beyond_reach_changes_one_level_at_most(
    monkeypatch: pytest.MonkeyPatch, pixels: int
) -> None:
    """On a photo, with trained weights: parts are computed without all that they depend on."""
    frame = cv2.imread(str(Path(allfocus.__file__).parent / "data" / "chelsea.png"))
    with allfocus.load("didanet-lite", skip="off", **EXACT) as deblur:
        whole = deblur(frame)
        memory = int(pixels * (lane(deblur).direct._stage.backend.bytes_per_pixel + 40))
    assert whole.defocus is not None
    skip = float(np.percentile(whole.defocus, 60))  # through the middle of what is blurred
    active = whole.defocus > skip
    largest = {}
    for reach in (0, REACH):
        monkeypatch.setattr(flows, "REACH", reach)
        with allfocus.load("didanet-lite", skip=skip, memory=memory, **EXACT) as deblur:
            parts = deblur(frame)
        assert 0 < parts.skipped < 0.6
        largest[reach] = np.abs(parts.image.astype(int) - whole.image)[active].max()
    assert largest[REACH] <= 1 < largest[0]


@pytest.mark.parametrize("name", ["didanet-lite", "sftnet-lite"])
def test_no_seam_shows_where_a_photo_is_passed_through(name: str) -> None:
    """On a photo, with trained weights and the usual choice: two pixels around every border."""
    frame = cv2.imread(str(Path(allfocus.__file__).parent / "data" / "chelsea.png"))
    frame[:, 330:] = cv2.GaussianBlur(frame, (0, 0), 4)[:, 330:]
    with allfocus.load(name, skip="off", **EXACT) as deblur:
        whole = deblur(frame)
    with allfocus.load(name, **EXACT) as deblur:
        parts, skip = deblur(frame), deblur._route.skips[1]
    assert skip is not None
    assert whole.defocus is not None
    active = skip.active(whole.defocus / MAX_RADIUS).astype(np.uint8)
    around = cv2.dilate(active, np.ones((5, 5))) - cv2.erode(active, np.ones((5, 5))) > 0
    assert 0 < parts.skipped < 1
    assert np.abs(parts.image.astype(int) - whole.image)[around].max() <= 1


def test_a_frame_that_is_all_in_focus_is_passed_through(opened: Any) -> None:
    deblur = opened("didanet-tiny", skip=1e6)
    frame = photo(64, 80)
    result = deblur(frame)
    np.testing.assert_array_equal(result.image, frame)
    assert result.image is not frame
    assert not np.shares_memory(result.image, frame)
    assert result.skipped == 1
    assert result.defocus is not None
    assert result.timings["infer"] > 0


def test_what_was_mirrored_to_fill_a_frame_is_no_work(opened: Any) -> None:
    """The share that is skipped is of the frame itself."""
    deblur = opened("didanet-tiny", skip=0.0)
    assert deblur(photo(61, 83)).skipped == 0


def test_an_engine_of_one_size_does_larger_frames_in_tiles(opened: Any) -> None:
    shape = Size(96, 64)
    whole, tiled = opened("jdrl-unet-tiny"), opened("jdrl-unet-tiny", shape=shape)
    margin = lane(tiled).direct._stage.grain.margin
    assert shape.height > 2 * margin
    frame = photo(150, 203, np.float32)
    np.testing.assert_allclose(tiled(frame).image, whole(frame).image, atol=1e-5)


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
    with pytest.raises(LimitError, match=f"--size 48x40 --precision {precision} {options}`"):
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


def test_a_graph_of_some_sizes_keeps_the_budget_too(opened: Any) -> None:
    """Its tiles are within both."""
    shapes = Shapes(Size(64, 64), Size(128, 128), Size(320, 320))
    whole = opened("jdrl-unet-tiny")
    tiled = opened("jdrl-unet-tiny", pixels=140 * 140, shape=shapes)
    frame = photo(300, 310, np.float32)
    np.testing.assert_allclose(tiled(frame).image, whole(frame).image, atol=1e-5)
    stage = lane(tiled).direct._stage
    sizes = {tile.seen.size for tile in stage.tiles(Window(0, 0, 312, 300), Size(312, 300))}
    assert len(sizes) == 1
    size = sizes.pop()
    assert size.area <= 140 * 140
    assert min(size.width, size.height) >= 64


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
    export = "export it larger: `allfocus export --model sftnet-tiny"
    assert str(told.value) == (
        "sftnet-tiny-estimate.onnx averages over the whole picture, and takes at most 64x48, got "
        f"104x68; {export} --phase estimate --size 104x68 --precision fp32 --onnx-only`"
    )
    deblur = Deblurrer(deblur._backend, memory=deblur.memory)
    with pytest.raises(LimitError) as told:
        deblur(photo(65, 101))
    assert str(told.value) == (
        "sftnet-tiny-whole.onnx averages over the whole picture, and takes at most 64x48, got "
        f"104x68; {export} --size 104x68 --precision fp32 --onnx-only`"
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
    with pytest.raises(UsageError, match="--phase estimate"):
        Deblurrer(whole._backend, skip=1.0)


def test_closing_closes_the_phases_too(opened: Any) -> None:
    deblur = opened("didanet-tiny", skip="auto")
    deblur(photo(32, 32))
    assert len(deblur._opened) == 2
    deblur.close()
    for backend in deblur._opened:
        assert not backend._open


def test_a_variant_shares_the_model_and_skips_more(opened: Any) -> None:
    deblur = opened("didanet-tiny", skip="off")
    frame = photo(96, 128, np.float32)
    whole = deblur(frame)
    assert whole.defocus is not None
    other = deblur.variant(skip=float(whole.defocus.max()))
    assert other(frame).skipped == 1
    assert deblur.variant(skip="off")._open_phases()[0] is deblur._opened[0]
    other.close()  # closes nothing
    np.testing.assert_array_equal(deblur(frame).image, whole.image)
    deblur.close()
    with pytest.raises(ArtefactError, match="closed"):
        other(frame)
    simple = opened("jdrl-unet-tiny")
    np.testing.assert_array_equal(simple.variant()(frame).image, simple(frame).image)
    with pytest.raises(UsageError, match=r"coarse_map: .* no files of its two phases"):
        simple.variant(coarse_map=True)


@pytest.mark.parametrize("name", ["didanet-tiny", "apl-tiny"])
def test_a_coarse_map_is_the_half_sized_frames(opened: Any, name: str) -> None:
    """Its radius doubled; all else is as with the map it gives."""
    import cv2

    deblur = opened(name)
    frame = photo(97, 131, np.float32)
    found = deblur.variant(skip="off", coarse_map=True)(frame)
    padded = np.pad(frame, ((0, 3), (0, 1), (0, 0)), mode="reflect")
    small = cv2.resize(padded, (66, 50), interpolation=cv2.INTER_AREA)
    half = deblur.variant(skip="off")(small)
    for plane, expected, factor in (
        (found.defocus, half.defocus, 2),
        (found.focus, half.focus, 1),
    ):
        assert (plane is None) == (expected is None)
        if plane is not None:
            assert plane.shape == (97, 131)
            grown = factor * cv2.resize(expected, (132, 100))[:97, :131]
            grown = np.minimum(grown, deblur.spec.max_radius) if factor == 2 else grown
            assert np.abs(np.maximum(plane, 0) - grown).mean() < 0.02 * grown.mean() + 1e-6
    assert np.abs(found.image - frame).max() > 0.01


def test_copies_between_host_and_gpu_are_counted(opened: Any) -> None:
    """Of every run that a frame took."""
    deblur = opened("didanet-tiny", pixels=2 * 112**2)
    deblur._backend.copies = 3
    assert deblur(photo(64, 64)).copies == 3
    deblur(photo(157, 189))
    for backend in deblur._opened:
        backend.copies, backend.calls = 2, 0
    assert deblur(photo(157, 189)).copies == 2 * sum(b.calls for b in deblur._opened) > 4


def test_what_checks_outputs_is_the_same_in_tiles(floats: Floats) -> None:
    """The reblurring net, of two pictures."""
    frames = {"sharp": photo(150, 203, np.float32), "blurry": photo(151, 203, np.float32)[:150]}
    with OrtBackend(floats.file("jdrl-reblur-tiny", "whole"), Options(threads=1)) as backend:
        backend.bytes_per_pixel = EACH
        side = 2 * backend.spec.halo + 40
        found = [
            flows.everywhere(Stage(backend, "bgr", int(pixels * (EACH + 40))), frames, Clock())
            for pixels in (10**9, side**2)
        ]
        assert side**2 < 150 * 203
        assert backend.calls > 2
    np.testing.assert_allclose(found[1]["reblurred"], found[0]["reblurred"], atol=1e-5)
    assert np.abs(found[0]["reblurred"] - frames["sharp"]).max() > 0.01  # it does something
