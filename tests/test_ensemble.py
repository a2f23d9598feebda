"""Self-ensembles: each way is laid back, and the mean is that of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from photos import PHOTO

import allfocus
from allfocus.runtime.allfocus.cli import main
from allfocus.runtime.clock import Clock
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.ensemble import COUNTS, Turned, looks, turns
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.flows import Drawn, Flow, Phased
from allfocus.runtime.form import COLOUR, form_of
from allfocus.runtime.skip import Choice
from allfocus.runtime.spec import Size
from allfocus.runtime.stage import Stage

Array = NDArray[Any]
ONE: dict[str, Any] = {"backend": "cpu", "precision": "fp32", "threads": 1}


class Leaning(Flow):
    """Adds to each pixel what depends on its column and row alone: turned back, that differs."""

    def __init__(self, size: Size, seen: list[Size]) -> None:
        self.size = size
        self.seen = seen

    def frames(self, size: Size) -> list[tuple[Stage, Size]]:
        assert size == self.size
        return [(None, size)]  # type: ignore[list-item]

    def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
        del clock, defocus
        self.seen.append(self.size)
        ramp = 64.0 * np.arange(self.size.width) + 640.0 * np.arange(self.size.height)[:, None]
        plane = ramp.astype(np.float32)
        added = plane.reshape(plane.shape + (1,) * (image.ndim - 2))
        return Drawn(np.asarray(image + added, image.dtype), plane, skipped=self.size.width / 8)


def leaning(count: int) -> tuple[Turned, list[Size]]:
    seen: list[Size] = []
    return Turned(turns(count), lambda size: Leaning(size, seen), COLOUR), seen


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("count", COUNTS)
def test_the_mean_is_of_all_ways_laid_back(count: int, dtype: Any) -> None:
    flow, seen = leaning(count)
    image = np.random.default_rng(1).integers(0, 999, (3, 5, 3)).astype(dtype)
    drawn = flow.draw(image, Clock())
    wide = 64.0 * np.arange(5) + 640.0 * np.arange(3)[:, None]
    high = 64.0 * np.arange(3) + 640.0 * np.arange(5)[:, None]
    laid = [np.rot90((high if way % 2 else wide), -way) for way in range(min(count, 4))]
    if count == 8:
        laid += [wide[:, ::-1], np.rot90(high[:, ::-1], -1), wide[::-1], np.rot90(high[::-1], -1)]
    mean = np.mean(laid, axis=0)
    np.testing.assert_allclose(drawn.defocus, mean, rtol=1e-6)
    np.testing.assert_allclose(drawn.sharp, image + mean[..., None], atol=0.5)
    assert drawn.sharp.dtype == dtype
    assert drawn.focus is None
    assert seen == ([Size(5, 3), Size(3, 5)] * 4)[:count]
    assert drawn.skipped == pytest.approx(5 / 8 if count == 1 else 4 / 8)


def test_room_is_asked_for_each_size_once() -> None:
    assert [size for _, size in leaning(8)[0].frames(Size(5, 3))] == [Size(5, 3), Size(3, 5)]
    assert [size for _, size in leaning(8)[0].frames(Size(4, 4))] == [Size(4, 4)]


def test_whole_numbers_stay_whole_steps_from_the_picture() -> None:
    """As P010's, whose lowest six bits are not the picture's."""
    form = form_of("image", "p010")
    frame = (np.arange(6 * 4).reshape(6, 4) * 64 + 5).astype(np.uint16)

    class Uneven(Leaning):
        def draw(self, image: Array, clock: Clock, defocus: Array | None = None) -> Drawn:
            del clock, defocus
            return Drawn(image + np.uint16(64 * self.size.width))

    drawn = Turned(turns(4), lambda size: Uneven(size, []), form).draw(frame, Clock())
    assert (drawn.sharp % 64 == 5).all()
    assert np.abs(drawn.sharp.astype(int) - frame - 64 * 4).max() <= 32


@pytest.mark.parametrize("count", [0, 3, 16, -1, True, 2.0, "2", "maps", None, [2]])
def test_another_number_is_refused_before_anything_is_opened(
    count: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allfocus.runtime.load.open_first", None)
    with pytest.raises(UsageError, match=r"ensemble: expected one of \(1, 2, 4, 8, 'map'\), got "):
        allfocus.load("didanet-lite", ensemble=count)


@pytest.fixture(scope="module")
def passes() -> Iterator[dict[int, Deblurrer]]:
    """The packaged model, of one pass and of more."""
    loaded = {count: allfocus.load("didanet-nano", ensemble=count, **ONE) for count in (1, 2, 4)}
    yield loaded
    for deblur in loaded.values():
        deblur.close()


def detail() -> Array:
    """Uint8 [45, 61, 3]: no multiples. Out of focus, for what is sharp passes as it is."""
    photo = cv2.imread(str(PHOTO))
    assert photo is not None
    disc = cv2.circle(np.zeros((9, 9), np.float32), (4, 4), 4, 1.0, -1)
    return np.ascontiguousarray(cv2.filter2D(photo, -1, disc / disc.sum())[60:105, 100:161])


@pytest.mark.parametrize("count", [2, 4])
def test_a_frame_is_the_mean_of_its_turns(passes: dict[int, Deblurrer], count: int) -> None:
    frame = detail()
    single = [passes[1](np.ascontiguousarray(np.rot90(frame, n))) for n in range(count)]
    together = passes[count](frame)
    images = [np.rot90(result.image, -n).astype(float) for n, result in enumerate(single)]
    maps = [np.rot90(result.defocus, -n) for n, result in enumerate(single)]
    assert np.abs(images[1] - images[0]).max() > 1  # else nothing is shown
    np.testing.assert_allclose(together.image, np.mean(images, axis=0), atol=0.51)
    np.testing.assert_allclose(together.defocus, np.mean(maps, axis=0), atol=1e-5)
    assert together.skipped == pytest.approx(np.mean([result.skipped for result in single]))
    assert together.image.dtype == np.uint8
    assert together.defocus is not None
    assert together.defocus.dtype == np.float32


@pytest.mark.parametrize("skip", ["off", "auto"])
def test_the_map_alone_may_be_that_of_two(passes: dict[int, Deblurrer], skip: Choice) -> None:
    frame = detail()
    turned = passes[1](np.ascontiguousarray(np.rot90(frame)))
    upright = passes[1](frame)
    mean = (upright.defocus + np.rot90(turned.defocus, -1)) / 2
    with allfocus.load("didanet-nano", ensemble="map", skip=skip, **ONE) as deblur:
        found = deblur(frame)
        assert deblur.ensemble == "map"
    np.testing.assert_allclose(found.defocus, mean, atol=1e-5)
    assert np.abs(found.defocus - upright.defocus).max() > 0.05  # else nothing is shown
    under = passes[1](frame, defocus=np.ascontiguousarray(mean, np.float32))
    assert np.abs(found.image.astype(int) - under.image).max() <= 1
    assert (found.image != upright.image).any()


def test_a_coarse_map_of_half_the_size_may_be_that_of_two(passes: dict[int, Deblurrer]) -> None:
    estimate, restore = passes[1]._stages()
    two = Phased(estimate, restore, None, looks=looks("map"), coarse_map=True)
    ones = [Phased(estimate, restore, None, looks=[way], coarse_map=True) for way in looks("map")]
    frame = detail()
    maps = [each.draw(frame, Clock()).defocus for each in ones]
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    np.testing.assert_allclose(two.draw(frame, Clock()).defocus, np.mean(maps, 0), atol=1e-6)
    wide, high, whole = (size for _, size in two.frames(Size(160, 96)))
    assert (wide, high, whole) == (Size(80, 48), Size(48, 80), Size(160, 96))


def test_a_map_of_two_needs_a_map_that_comes_first(passes: dict[int, Deblurrer]) -> None:
    with pytest.raises(UsageError, match="jdrl-unet-lite estimates no map; take a number of passe"):
        allfocus.load("jdrl-unet-lite", ensemble="map", **ONE)
    with pytest.raises(UsageError, match=r"the map must come before the rest.*--phase all"):
        Deblurrer(passes[1]._backend, ensemble="map")


def test_a_map_of_two_in_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "a.png"
    cv2.imwrite(str(source), detail())
    words = ["--model", "didanet-nano", "--backend", "cpu", "--precision", "fp32", "--threads", "1"]
    assert (
        main(["deblur", str(source), "-o", str(tmp_path / "out"), "--ensemble", "map", *words]) == 0
    )
    assert main(["deblur", str(source), "--ensemble", "3", *words]) == 2
    assert "expected one of 1, 2, 4, 8, map, got '3'" in capsys.readouterr().err


def test_grey_and_alpha_pass_as_ever(passes: dict[int, Deblurrer]) -> None:
    frame = np.dstack((detail(), np.arange(61, dtype=np.uint8) * np.ones((45, 1), np.uint8)))
    np.testing.assert_array_equal(passes[2](frame).image[..., 3], frame[..., 3])
    assert passes[2](frame[..., 0]).image.shape == (45, 61)


def test_a_variant_is_of_one_pass(passes: dict[int, Deblurrer]) -> None:
    one, other = passes[2].variant(), passes[1].variant()
    assert one.ensemble == 1
    np.testing.assert_array_equal(one(detail()).image, other(detail()).image)


def test_a_frame_on_a_gpu_is_refused(passes: dict[int, Deblurrer]) -> None:
    class Tensor:
        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

    with pytest.raises(InputError, match="ensemble=2 would have it; give frames from host memory"):
        passes[2](Tensor())


def test_deblur_and_eval_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame, model = detail(), ["--model", "didanet-nano", "--backend", "cpu", "--precision", "fp32"]
    cv2.imwrite(str(tmp_path / "a.png"), frame)
    for count in ("1", "2"):
        out = str(tmp_path / f"{count}.png")
        assert (
            main(["deblur", str(tmp_path / "a.png"), "-o", out, "--ensemble", count, *model]) == 0
        )
    one, two = (cv2.imread(str(tmp_path / f"{count}.png")) for count in (1, 2))
    assert (one != two).any()
    found = []
    for count in ("1", "4"):
        capsys.readouterr()
        judged = ["eval", "--limit", "1", "--size", "64x48", "--no-baselines", "--json"]
        assert main([*judged, "--ensemble", count, *model]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["rows"][1]["similarity"] != found[1]["rows"][1]["similarity"]
    assert "models: the mean of 4 passes of each picture, turned" in found[1]["notes"]
    assert main(["deblur", "a.png", "-o", "b.png", "--ensemble", "3"]) == 2
