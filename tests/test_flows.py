"""Frames in tiles, and with parts left out, against the same frames at once, for every model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_flows import CUT, EACH, opener, photo
from tiny_graphs import Floats

import allfocus
from allfocus.runtime import flows
from allfocus.runtime.backend import Options
from allfocus.runtime.catalogue import MODELS
from allfocus.runtime.clock import Clock
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import ArtefactError, UsageError
from allfocus.runtime.ort import OrtBackend
from allfocus.runtime.skip import FADE, FOCUS, REACH, Choice
from allfocus.runtime.spec import Shapes, Size
from allfocus.runtime.stage import Stage
from allfocus.runtime.tiling import Window
from allfocus.train.models import build
from allfocus.train.models.didanet import MAX_RADIUS

TINY = [n for n, m in MODELS.items() if n.endswith("-tiny") and m.signature("whole").deblurs]
SMALL = ["didanet-tiny", "sftnet-tiny", "jdrl-unet-tiny", "apl-tiny"]
LARGE = [
    pytest.param(name, marks=pytest.mark.full)  # exporting them takes long
    for name, model in MODELS.items()
    if name not in SMALL and model.signature("whole").deblurs
]
SEEN = ["didanet-tiny", "sftnet-tiny", "apl-tiny"]  # those with a map
EXACT: dict[str, Any] = {"backend": "cpu", "precision": "fp32"}  # other precisions differ by more


@pytest.fixture
def opened(floats: Floats, tmp_path: Path) -> Iterator[Any]:
    with opener(floats, tmp_path) as make:
        yield make


def lane(deblur: Deblurrer) -> Any:
    """What its one call at a time works with."""
    with deblur._lanes.one() as found:
        return found


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
        assert lane(whole).direct.fits(Size(width, height))
    else:
        assert not lane(tiled).direct.fits(Size(width, height))


@pytest.mark.parametrize("name", SEEN)
def test_a_frame_is_padded_for_each_of_two_graphs_as_it_needs(opened: Any, name: str) -> None:
    """One graph does what needs no padding; of two, the second mirrors less than the first."""
    deblur, apart = opened(name), opened(name)
    route, one, two = deblur._route, lane(deblur), lane(apart).phased(None, coarse_map=False)
    multiple = deblur.spec.multiple
    frame = photo(4 * multiple, 5 * multiple, np.float32)
    assert route.flow(Size(5 * multiple, 4 * multiple), one) is one.direct
    drawn = two.draw(frame, Clock())
    np.testing.assert_allclose(drawn.sharp, deblur(frame).image, atol=1e-5)
    assert not one._phased
    size = Size(5 * multiple - 3, 4 * multiple - 3)
    first, second = (grown for _, grown in route.flow(size, one).frames(size))
    assert first == Size(5 * multiple, 4 * multiple)
    least = build(name).multiple_of("restore")
    assert second == size.padded(least)
    assert least < multiple


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
