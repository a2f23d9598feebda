"""Rows of the quality table against a computation by hand; failures that are no zeros."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from allfocus.benchmarks.candidates import Candidate, Given, Output, the_input
from allfocus.benchmarks.quality_schema import QualityRow
from allfocus.benchmarks.scoring import Settings, judge
from allfocus.runtime.errors import AllfocusError, UsageError
from allfocus.train.evaluation_pair import Pair
from allfocus.train.metrics import FMeasure, mae, psnr, ssim


def make_pair(seed: int, *, with_map: bool = True) -> Pair:
    rng = np.random.default_rng(seed)
    sharp = rng.integers(0, 256, (16, 20, 3)).astype(np.uint8)
    noise = rng.integers(-20, 21, sharp.shape)
    blurry = np.clip(sharp.astype(int) + noise, 0, 255).astype(np.uint8)
    radius = (10 * rng.random((16, 20)) ** 2).astype(np.float32)
    maps = (radius, radius) if with_map else (None, None)
    return Pair(f"picture-{seed}", blurry, sharp, *maps)


PAIRS = [make_pair(seed) for seed in range(3)]


def score(candidate: Candidate, pairs: list[Pair] = PAIRS, **settings: bool) -> QualityRow:
    return judge(candidate, pairs, Settings(**settings), lambda *_: None)


def model(run: Callable[[Pair, Given], Output], max_radius: float = 8.0) -> Candidate:
    return Candidate(name="a-model", kind="model", run=run, max_radius=max_radius)


def half_way(pair: Pair, given: Given) -> Output:
    between = (given.astype(int) + pair.sharp) // 2
    return Output(image=between.astype(np.uint8))


def test_the_inputs_row_is_what_one_computes_by_hand() -> None:
    row = score(the_input())
    pictures = [(p.blurry / 255.0, p.sharp / 255.0) for p in PAIRS]
    assert row.similarity is not None
    for found, measure in (
        (row.similarity.psnr_db, psnr),
        (row.similarity.ssim, ssim),
        (row.similarity.mae, mae),
    ):
        values = [measure(blurry, sharp) for blurry, sharp in pictures]
        assert found == pytest.approx(np.mean(values), abs=1e-5)
    assert [p.name for p in row.pictures] == ["picture-0", "picture-1", "picture-2"]
    assert (row.kind, row.deformed, row.map, row.detection) == ("input", None, None, None)


def test_bands_are_the_pixels_of_their_radius_and_add_up_to_the_whole() -> None:
    row = score(model(half_way))
    out = np.concatenate([half_way(p, p.blurry).image.reshape(-1, 3) for p in PAIRS]) / 255.0  # type: ignore[union-attr]
    sharp, blurry = (
        np.concatenate([getattr(p, name).reshape(-1, 3) for p in PAIRS]) / 255.0
        for name in ("sharp", "blurry")
    )
    radius = np.concatenate([p.radius.ravel() for p in PAIRS if p.radius is not None])
    for band in row.bands:
        inside = (radius >= band.low) & (radius < (band.high or math.inf))
        assert band.pixels == inside.sum() > 0
        assert band.psnr_db == pytest.approx(psnr(out[inside], sharp[inside]), abs=1e-4)
        assert band.unchanged_db == pytest.approx(psnr(out[inside], blurry[inside]), abs=1e-4)
    assert sum(band.pixels for band in row.bands) == row.whole.pixels == radius.size
    assert sum(band.share for band in row.bands) == pytest.approx(1)
    errors = (b.pixels * 10 ** (-b.psnr_db / 10) for b in row.bands if b.psnr_db is not None)
    assert row.whole.psnr_db == pytest.approx(-10 * math.log10(sum(errors) / radius.size))
    assert row.whole.psnr_db == pytest.approx(psnr(out, sharp), abs=1e-4)


def test_equal_pictures_are_99_decibels() -> None:
    row = score(model(lambda pair, _: Output(image=pair.sharp)))
    assert row.similarity is not None
    assert row.similarity.psnr_db == row.whole.psnr_db == 99
    assert score(the_input()).whole.unchanged_db == 99


def test_without_maps_there_are_no_bands() -> None:
    row = score(model(half_way), [make_pair(0, with_map=False)])
    assert row.bands == ()
    assert row.detection is None
    assert row.whole.psnr_db is not None


def test_maps_are_measured_in_units_of_max_radius() -> None:
    def run(pair: Pair, given: Given) -> Output:
        assert pair.radius is not None
        return Output(image=given, defocus=pair.radius + np.float32(0.4))

    row = score(model(run, max_radius=20.0))
    assert row.map is not None
    assert row.map.mae == pytest.approx(0.02, abs=1e-6)
    assert row.map.mse == pytest.approx(0.0004, abs=1e-6)
    clipped = score(model(run, max_radius=1.0))  # beyond max_radius, map and truth are 1
    assert clipped.map is not None
    assert clipped.map.mae < 0.4


def test_what_is_in_focus_is_told_by_focus_or_by_small_radii() -> None:
    def focus(pair: Pair, _: Given) -> Output:
        assert pair.radius is not None
        return Output(focus=np.exp(-pair.radius))

    def defocus(pair: Pair, given: Given) -> Output:
        assert pair.radius is not None
        return Output(image=given, defocus=pair.radius[:, ::-1])

    seen, measure = score(model(focus)), FMeasure()
    assert seen.similarity is None
    assert seen.whole.psnr_db is None
    assert seen.detection is not None
    assert seen.detection.f_max > 0.95
    errors = [
        mae(np.exp(-p.radius), (p.radius < 0.5).astype(float))
        for p in PAIRS
        if p.radius is not None
    ]
    assert seen.detection.mae == pytest.approx(np.mean(errors), abs=1e-6)
    for pair in PAIRS:
        assert pair.radius is not None
        measure.add(1 - pair.radius[:, ::-1] / 8, pair.radius < 0.5)
    wrong = score(model(defocus)).detection
    assert wrong is not None
    assert wrong.f_max == measure.maximum()
    assert wrong.mae is None


@pytest.mark.parametrize("by", ["focus", "defocus"])
def test_more_may_count_as_in_focus(by: str) -> None:
    def run(pair: Pair, _: Given) -> Output:
        assert pair.radius is not None
        return Output(**{by: (1 - pair.radius / 8 if by == "focus" else pair.radius)[:, ::-1]})

    found = score(model(run)).detection
    assert found is not None
    radius = np.concatenate([p.radius.ravel() for p in PAIRS if p.radius is not None])
    assert [under.under_px for under in found.wider] == [2.0, 4.0]
    for under in found.wider:
        measure = FMeasure()
        for pair in PAIRS:
            assert pair.radius is not None
            measure.add(1 - pair.radius[:, ::-1] / 8, pair.radius < under.under_px)
        assert under.f_max == measure.maximum()
        assert under.share == pytest.approx((radius < under.under_px).mean())
    assert found.f_max < found.wider[0].f_max < found.wider[1].f_max


def test_masks_alone_have_one_line() -> None:
    def run(pair: Pair, _: Given) -> Output:
        return Output(focus=np.full(pair.blurry.shape[:2], 0.5, np.float32))

    seen = np.where(PAIRS[0].blurry[..., 0] < 99, 0, np.inf).astype(np.float32)
    found = score(model(run), [Pair("a", PAIRS[0].blurry, None, None, seen)]).detection
    assert found is not None
    assert found.f_max == pytest.approx(1.3 / (0.3 + 1 / (seen == 0).mean()))
    assert found.wider == ()


def test_planes_of_a_padded_picture_are_cut() -> None:
    def run(pair: Pair, _: Given) -> Output:
        return Output(focus=np.pad(np.ones(pair.blurry.shape[:2], np.float32), ((0, 4), (0, 4))))

    assert score(model(run)).detection is not None


def test_float_pictures_are_not_rounded() -> None:
    def run(pair: Pair, given: Given) -> Output:
        assert given.dtype == np.float32
        return Output(image=pair.sharp.astype(np.float32) / 255 + np.float32(0.001))

    row = score(model(run), float_output=True)
    assert row.similarity is not None
    assert row.similarity.mae == pytest.approx(0.001, rel=0.02)  # white is clipped


def test_the_deformed_truth_is_a_column_of_its_own() -> None:
    row = score(model(half_way), deform=True)
    assert row.deformed is not None
    assert row.similarity is not None
    assert row.deformed.psnr_db != row.similarity.psnr_db
    assert all(picture.deformed is not None for picture in row.pictures)


def test_lpips_is_averaged_where_there_is_one() -> None:
    distances = iter((0.1, 0.2, 0.6))
    settings = Settings(lpips=lambda *_: next(distances))
    row = judge(the_input(), PAIRS, settings, lambda *_: None)
    assert row.similarity is not None
    assert row.similarity.lpips == pytest.approx(0.3)


def broken(output: Output) -> Callable[[Pair, Given], Output]:
    return lambda pair, given: output if pair.name == "picture-1" else Output(image=given)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (Output(image=np.zeros((3, 3, 3), np.uint8)), "expected a picture"),
        (Output(image=np.full((16, 20, 3), np.nan, np.float32)), "no numbers"),
        (Output(focus=np.full((16, 20), np.inf, np.float32)), "no numbers"),
    ],
)
def test_what_is_no_picture_is_an_error(output: Output, said: str) -> None:
    with pytest.raises(AllfocusError, match=f"a-model on picture-1: .*{said}"):
        score(model(broken(output)))


def test_a_failure_is_an_error_that_names_model_and_picture() -> None:
    def run(pair: Pair, given: Given) -> Output:
        if pair.name == "picture-2":
            raise UsageError("out of luck")
        return Output(image=given)

    with pytest.raises(AllfocusError, match="a-model on picture-2: out of luck") as caught:
        score(model(run))
    assert caught.value.exit_code == 1
