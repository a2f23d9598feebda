"""Blur beyond a model's own radius: which levels there are, where each shows, what it brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from photos import PHOTO

import allfocus
from allfocus.cli import main
from allfocus.runtime import work
from allfocus.runtime.clock import Clock
from allfocus.runtime.deblurrer import Deblurrer, Result
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.flows import Drawn, Flow
from allfocus.runtime.form import COLOUR, form_of
from allfocus.runtime.reach import Levels, levels
from allfocus.runtime.signature import Signature
from allfocus.runtime.spec import Io, Size
from allfocus.runtime.stage import Stage
from allfocus.train.psf import Aperture

Array = NDArray[Any]
EXACT: dict[str, Any] = {"backend": "cpu", "precision": "fp32", "threads": 1}


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[float | None, Deblurrer]]:
    """The packaged model with its own reach and with more."""
    found = {reach: allfocus.load("didanet-nano", reach=reach, **EXACT) for reach in (None, 32)}
    yield found
    for deblur in found.values():
        deblur.close()


def sharp() -> Array:
    """Uint8 [200, 300, 3]: a part of the package's photo, most of it in focus."""
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    return np.ascontiguousarray(photo[50:250, 80:380])


def out_of_focus(radius: float) -> Array:
    """`sharp` through a lens that is out of focus by so many pixels, but for the light's curve."""
    kernel = Aperture(shape="disc").kernel(radius)
    return np.asarray(cv2.filter2D(sharp(), -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def psnr(found: Array) -> float:
    error = found[24:-24, 24:-24].astype(float) - sharp()[24:-24, 24:-24]
    return float(10 * np.log10(255**2 / np.mean(error**2)))


@pytest.mark.parametrize("reach", [0, -8, float("nan"), float("inf"), True, "16", [16]])
def test_what_is_no_radius_is_refused_before_anything_is_opened(
    reach: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allfocus.runtime.load.open_first", None)
    with pytest.raises(UsageError, match=r"reach: expected a blur radius in pixels above 0, got"):
        allfocus.load("didanet-nano", reach=reach)


def test_what_a_model_cannot_is_refused() -> None:
    with pytest.raises(UsageError, match=r"reach=65: expected up to 64 pixels, 8 times what"):
        allfocus.load("didanet-nano", reach=65, **EXACT)
    with pytest.raises(UsageError, match=r"jdrl-unet-lite makes no map of blur radii, by which"):
        allfocus.load("jdrl-unet-lite", reach=16, **EXACT)


def test_each_level_doubles_the_reach(loaded: dict[float | None, Deblurrer]) -> None:
    deblur = loaded[None]
    asked = (None, 1, 8, 8.1, 16, np.float32(17), 32, 33, 64)
    found = [levels(radius, deblur.spec, deblur.graph.signature) for radius in asked]
    assert found == [(), (), (), (2,), (2,), (2, 4), (2, 4), (2, 4, 8), (2, 4, 8)]
    wide = replace(deblur.spec, max_radius=25.0)
    assert levels(32, wide, deblur.graph.signature) == (2,)
    with pytest.raises(UsageError, match="makes no map"):
        levels(16, deblur.spec, Signature(("image",), ("sharp", "focus")))


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(2, 8),
    st.sampled_from(["frame", "frame16", "float", "nv12", "p010"]),
    st.integers(-9, 9),
)
def test_a_change_is_enlarged_and_added(
    width: int, height: int, times: int, io: Io, change: int
) -> None:
    """An even one, which no enlarging alters."""
    form = form_of("image", io)
    size = form.fitting(Size(width, height))
    small = form.fitting(Size(-(-width // times), -(-height // times)))
    dtype: Any = {"float": np.float32, "frame": np.uint8, "nv12": np.uint8}.get(io, np.uint16)
    like = np.zeros((3, 2) if io in ("nv12", "p010") else (2, 2, 3), dtype)
    unit = 0.01 if io == "float" else form.step
    larger, before = form.empty(size, like), form.empty(small, like)
    larger[...] = np.resize(np.arange(100, 120) * unit, larger.shape)
    larger += np.array(5 if io == "p010" else 0, dtype)  # bits below its level stay
    larger = np.clip(larger, 0, 1) if io == "float" else larger
    before[...] = np.array(20 * unit, dtype)
    after = before + np.array(abs(change) * unit, dtype)
    first, second = (before, after) if change >= 0 else (after, before)
    found = form.carried(first, second, larger)
    assert found.dtype == larger.dtype
    expected = larger.astype(np.float64) + change * unit
    np.testing.assert_allclose(found, np.clip(expected, 0, 1 if io == "float" else None), atol=1e-5)


def test_no_change_goes_beyond_white_and_black() -> None:
    small, larger = np.zeros((2, 2, 3), np.uint8), np.full((4, 4, 3), 250, np.uint8)
    assert (COLOUR.carried(small, small + 50, larger) == 255).all()
    assert (COLOUR.carried(small + 255, small, larger) == 0).all()
    deep = form_of("image", "p010")
    frame = np.full((6, 4), 1000 << 6, np.uint16)
    black = np.zeros((3, 2), np.uint16)
    assert (deep.carried(black, black + (900 << 6), frame) == 1023 << 6).all()


class Painting(Flow):
    """Paints all in the number of its level; its map is what is given for the level."""

    def __init__(self, size: Size, maps: dict[int, Array]) -> None:
        self.size, self.maps = size, maps

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        return [(None, size)]  # type: ignore[list-item]

    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        del clock, defocus
        times = 64 // self.size.width
        radius = cv2.resize(self.maps[times], (self.size.width, self.size.height))
        return Drawn(image + np.uint8(times), np.asarray(radius, np.float32), skipped=0.25)


def painted(first: float, second: float, third: float) -> Drawn:
    """A picture of 64x64 in three levels, each with the same blur all over, as a share of 8 px."""
    maps = {n: np.full((64, 64), v, np.float32) for n, v in ((1, first), (2, second), (4, third))}
    flow = Levels((2, 4), lambda size, _: Painting(size, maps), COLOUR)
    return flow.draw(np.full((64, 64, 3), 100, np.uint8), Clock())


@pytest.mark.parametrize(
    ("maps", "pixels", "radius"),
    [
        ((0.1, 0.1, 0.1), 101, 0.1),
        ((0.7, 1.0, 1.0), 101, 0.7),  # the finer one is sure that it suffices
        ((1.0, 0.4, 0.2), 101, 1.0),  # the coarser one sees less than the finer one can undo
        ((1.0, 0.75, 0.4), 102, 1.5),
        ((1.0, 1.0, 0.75), 104, 3.0),
        ((1.0, 0.4, 1.0), 101, 1.0),  # a level between them says no
        ((1.0, 0.5, 0.2), 102, 1.0),  # half way: what rounds
    ],
)
def test_the_coarser_shows_where_both_maps_say_so(
    maps: tuple[float, float, float], pixels: int, radius: float
) -> None:
    drawn = painted(*maps)
    assert np.abs(drawn.sharp.astype(int) - pixels).max() <= (maps[1] == 0.5)
    np.testing.assert_allclose(drawn.defocus, radius, atol=1e-3)
    assert drawn.skipped == 0.25


def test_small_pictures_have_fewer_levels() -> None:
    flow = Levels((2, 4, 8), lambda size, _: Painting(size, {}), COLOUR)
    assert [size for _, size in flow.frames(Size(101, 64))] == [
        Size(101, 64),
        Size(51, 32),
        Size(26, 16),
    ]
    assert [size for _, size in flow.frames(Size(31, 400))] == [Size(31, 400)]
    even = Levels((2,), lambda size, _: Painting(size, {}), form_of("image", "nv12"))
    assert [size for _, size in even.frames(Size(70, 66))] == [Size(70, 66), Size(36, 34)]


@pytest.mark.parametrize("radius", [12.0, 20.0])
def test_blur_beyond_the_models_own_is_undone_and_told(
    loaded: dict[float | None, Deblurrer], radius: float
) -> None:
    blurry = out_of_focus(radius)
    own, more = loaded[None](blurry), loaded[32](blurry)
    assert psnr(more.image) > psnr(own.image) + 0.5
    assert psnr(more.image) > psnr(blurry) + 0.5
    inner = more.defocus[24:-24, 24:-24]
    assert own.defocus.max() < 9
    assert abs(float(np.median(inner)) - radius) < 0.25 * radius
    assert more.image.dtype == np.uint8


def test_a_radius_to_skip_is_of_the_frame_at_each_level() -> None:
    blurry = out_of_focus(12.0)
    with allfocus.load("didanet-nano", reach=32, skip=6, **EXACT) as deblur:
        found = deblur(blurry)
    assert psnr(found.image) > psnr(blurry) + 0.5
    assert (found.image != blurry).any(2).mean() > 0.8


def test_wide_blur_is_judged_where_it_was_undone() -> None:
    blurry = out_of_focus(16.0)
    with allfocus.load("didanet-nano", reach=32, check=True, fallback=0.5, **EXACT) as deblur:
        found, bare = deblur(blurry), deblur.trust(blurry, sharp())
    with allfocus.load("didanet-nano", reach=32, **EXACT) as deblur:
        shown = deblur(blurry).image
    assert found.trust is not None
    assert np.median(found.trust) > np.median(bare) + 0.2
    assert psnr(found.image) > psnr(shown) - 0.1


def test_what_the_model_can_undo_is_left_to_it(loaded: dict[float | None, Deblurrer]) -> None:
    blurry = out_of_focus(3.0)
    own, more = loaded[None](blurry), loaded[32](blurry)
    assert np.mean(own.image != more.image) < 0.05  # where the photo itself is out of focus
    assert np.mean(own.defocus != more.defocus) < 0.05


def test_turns_variants_and_small_memory_go_with_it(
    loaded: dict[float | None, Deblurrer],
) -> None:
    blurry = out_of_focus(12.0)
    expected = loaded[32](blurry).image
    assert loaded[32].reach == 32
    with loaded[32].variant() as same:
        assert same.reach == 32
        np.testing.assert_array_equal(same(blurry).image, expected)
    with allfocus.load("didanet-nano", reach=32, memory="40MiB", **EXACT) as tiled:
        assert np.abs(tiled(blurry).image.astype(int) - expected).max() <= 1
    with allfocus.load("didanet-nano", reach=32, ensemble=2, **EXACT) as turned:
        assert psnr(turned(blurry).image) > psnr(expected) - 0.1


def test_a_frame_on_a_gpu_is_refused(loaded: dict[float | None, Deblurrer]) -> None:
    class Tensor:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    with pytest.raises(InputError, match=r"reach=32 would have it; give frames from host memory"):
        loaded[32](Tensor())


@pytest.mark.parametrize(
    ("asked", "most", "said"),
    [
        (None, 8.0, "8 pixels or more, which is beyond net: try --reach 32"),
        (16.0, 16.0, "16 pixels or more, which is beyond --reach 16: try --reach 64"),
        (20.0, 32.0, "32 pixels or more, which is beyond --reach 20: try --reach 64"),
        (64.0, 64.0, None),
    ],
)
def test_a_reach_that_is_not_enough_is_told(
    asked: float | None, most: float, said: str | None
) -> None:
    spec = SimpleNamespace(name="net", max_radius=8.0)
    deblur: Any = SimpleNamespace(largest_radius=most, reach=asked, spec=spec)
    result = Result(image=None, defocus=np.full((4, 4), most, np.float32), timings={})
    notes = work._beyond(deblur, result)
    assert [note.partition("by some ")[2] for note in notes] == ([said] if said else [])


def test_commands_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ["--model", "didanet-nano", "--backend", "cpu"]
    cv2.imwrite(str(tmp_path / "a.png"), out_of_focus(12.0))
    for name, more in (("own", []), ("more", ["--reach", "32"])):
        out = ["-o", str(tmp_path / f"{name}.png"), "--precision", "fp32"]
        assert main(["deblur", str(tmp_path / "a.png"), *out, *model, *more]) == 0
    own, more = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("own", "more"))
    assert own is not None
    assert more is not None
    assert psnr(more) > psnr(own) + 0.5
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1  # not where the reach suffices
    assert "% of it is blurred by some 8 pixels or more, which is beyond didanet-nano" in told[0]
    assert told[0].endswith("try --reach 32")
    assert main(["deblur", "a.png", "-o", "b.png", *model, "--reach", "-1"]) == 2
    cv2.imwrite(str(tmp_path / "sharp.png"), sharp())
    words = ["bench", "discs", str(tmp_path / "sharp.png"), "--radii", "12", "--no-baselines"]
    capsys.readouterr()
    assert main([*words, *model, "--reach", "16", "--size", "300x200", "--json"]) == 0
    rows = {row["name"]: row["psnr_db"][0] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert list(rows) == ["input", "didanet-nano", "didanet-nano, reach 16"]
    assert rows["didanet-nano, reach 16"] > rows["didanet-nano"] + 0.5
