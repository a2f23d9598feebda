"""Trust in an output: the figure itself, what falls back, and a loaded model that checks itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allfocus
from allfocus.benchmarks.schema import decode
from allfocus.runtime.deblurrer import Deblurrer
from allfocus.runtime.errors import InputError, UsageError
from allfocus.runtime.trust import check_fallback, trust
from allfocus.train.evaluation_scenes import load_photo

PHOTO = load_photo("astronaut")[100:196, 150:278]  # [96, 128, 3]


def unit(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / np.float32(255)


def test_what_is_met_exactly_is_trusted_wholly() -> None:
    found = trust(unit(PHOTO), unit(PHOTO))
    assert (found.shape, found.dtype) == ((96, 128), np.float32)
    assert np.all(found == 1)


def test_trust_falls_where_and_only_where_the_input_is_missed() -> None:
    again = unit(PHOTO).copy()
    again[20:40, 30:60] += 0.3
    found = trust(unit(PHOTO), again)
    assert found[25:35, 35:55].max() < 0.1
    assert found[60:].min() > 0.99


def test_detail_may_be_missed_by_more_than_a_flat_part() -> None:
    flat = np.full_like(unit(PHOTO), 0.5)
    rough = flat.copy()
    rough[::4] += 0.2
    low = [trust(image, image + 0.03).mean() for image in (flat, rough)]
    assert low[1] > low[0] + 0.1


def test_noise_of_the_input_costs_little_trust() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, PHOTO.shape).astype(np.float32)
    assert trust(unit(PHOTO) + noise, unit(PHOTO)).mean() > 0.8


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_more_it_is_off_the_less_it_is_trusted(a: float, b: float, seed: int) -> None:
    blurry, other = np.random.default_rng(seed).random((2, 16, 16, 3), np.float32)
    near, far = (trust(blurry, blurry + np.float32(s) * (other - blurry)) for s in sorted((a, b)))
    assert np.all((far >= 0) & (near <= 1))
    assert np.all(far <= near + 1e-6)


def test_what_is_not_trusted_falls_back(deblur: Deblurrer) -> None:
    blurry, sharp = np.zeros_like(PHOTO), np.full_like(PHOTO, 200)
    trusted = np.full(PHOTO.shape[:2], 1, np.float32)
    trusted[:10], trusted[10:20], trusted[20:30] = 0, 0.25, 0.5
    with deblur._lanes.one() as lane:
        assert lane.checker is not None
        found = lane.checker.fallen_back(blurry, sharp, trusted, 0.5)
    assert found.dtype == np.uint8
    assert [int(found[row].mean()) for row in (5, 15, 25, 60)] == [0, 100, 200, 200]


@given(st.floats(2**-10, 1, width=16), st.sampled_from([float, np.float16, np.float32, np.float64]))
def test_a_fallback_is_a_real_number_of_any_kind(number: float, kind: Any) -> None:
    found = check_fallback(kind(number))
    assert type(found) is float
    assert found == number
    assert check_fallback(np.int64(1)) == 1.0
    assert check_fallback(None) is None


@pytest.mark.parametrize(
    "fallback", [0, -0.5, 1.5, float("nan"), np.float32(1.5), True, np.bool_(True), "0.5"]
)
def test_what_is_no_trust_is_refused(fallback: Any) -> None:
    with pytest.raises(UsageError, match="expected a trust above 0, up to 1, got"):
        check_fallback(fallback)
    with pytest.raises(UsageError, match="expected a trust above 0, up to 1, got"):
        allfocus.load("didanet-lite", fallback=fallback)


@pytest.fixture(scope="module")
def deblur() -> Iterator[Deblurrer]:
    with allfocus.load("didanet-lite", color="rgb", fallback=0.5) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def blurry() -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(PHOTO, (0, 0), 2))


def test_results_say_how_far_they_are_trusted(deblur: Deblurrer, blurry: np.ndarray) -> None:
    result = deblur(blurry)
    assert result.trust is not None
    assert (result.trust.shape, result.trust.dtype) == ((96, 128), np.float32)
    assert 0.5 < np.median(result.trust) <= 1
    assert result.timings["check"] > 0
    np.testing.assert_array_equal(
        deblur.trust(blurry, deblur.variant(skip="off")(blurry).image) > 0.5, result.trust > 0.5
    )


def test_a_variant_leaves_the_checker_its_part_of_the_memory(deblur: Deblurrer) -> None:
    """Which stays loaded, though a variant's outputs are not checked."""
    variant = deblur.variant(skip=1.0).variant(skip=2.0)
    assert not variant.checks
    photo = PHOTO[:40, :40]
    np.testing.assert_array_equal(variant.trust(photo, photo), deblur.trust(photo, photo))
    assert variant._stage(variant._backend, graphs=2)._graphs == 3


def test_what_was_painted_in_falls_back(deblur: Deblurrer, blurry: np.ndarray) -> None:
    made = PHOTO.copy()
    made[30:60, 40:80, :] = np.where(np.indices((30, 40)).sum(0)[..., None] // 6 % 2, 255, 0)
    trusted = deblur.trust(blurry, made)
    assert trusted[35:55, 45:75].mean() < 0.1 < 0.6 < trusted[70:].mean()


@pytest.mark.parametrize("kind", ["grey", "alpha", "reversed"])
def test_frames_of_every_shape_are_checked(
    deblur: Deblurrer, blurry: np.ndarray, kind: str
) -> None:
    frame = {
        "grey": blurry[:, :, 0],
        "alpha": np.dstack((blurry, blurry[:, :, :1])),
        "reversed": blurry[::-1, ::-1],
    }[kind]
    result = deblur(frame)
    assert result.image.shape == frame.shape
    assert result.trust is not None
    assert result.trust.shape == frame.shape[:2]


def test_frames_that_do_not_belong_together_are_refused(
    deblur: Deblurrer, blurry: np.ndarray
) -> None:
    with pytest.raises(InputError, match=r"of one size and type, got uint8 \[96, 128, 3\] and"):
        deblur.trust(blurry, blurry[:50])
    with pytest.raises(InputError, match="of one size and type"):
        deblur.trust(blurry, unit(blurry))


def test_a_model_without_check_judges_nothing(blurry: np.ndarray) -> None:
    with allfocus.load("didanet-lite") as plain:
        assert plain(blurry).trust is None
        with pytest.raises(UsageError, match="load the model with check=True"):
            plain.trust(blurry, blurry)


def test_the_command_tells_failures_from_what_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The full figures are those of all pictures."""
    from allfocus.benchmarks import trust as bench

    out = tmp_path / "trust.json"
    assert bench.main(["--pictures", "2", "--out", str(out)]) == 0
    assert "didanet-lite: outputs as they are have a median trust of" in capsys.readouterr().out
    report = decode(bench.Report, out.read_text())
    assert report.schema == "allfocus/trust/1"
    assert {row.name for row in report.rows} == {
        "ringing", "fine ringing", "painted texture", "damaged weights"
    }  # fmt: skip
    assert min(row.auc for row in report.rows) >= 0.9
    assert all(row.failed < row.elsewhere for row in report.rows)
