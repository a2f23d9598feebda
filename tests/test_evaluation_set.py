"""The built-in set: fixed, complete, and what it says it is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("skimage.data", reason="the set's photos are scikit-image's")

from allfocus.runtime.errors import AllfocusError
from allfocus.runtime.spec import Size
from allfocus.train import evaluation_scenes
from allfocus.train.evaluation_pair import Pair
from allfocus.train.evaluation_scenes import available, photograph
from allfocus.train.evaluation_set import PHOTOS, SCENES, SIZE, Depth, Plane
from allfocus.train.metrics import psnr
from allfocus.train.synthetic import to_linear, to_srgb

# Mean level of the blurry picture, mean difference from the sharp one, and mean radius in pixels,
# of what is front-most and of what is seen: figures of version 1. Machines differ by rounding only,
# far below the tolerances.
FIGURES = {
    "astronaut-slant": (140.67, 4.855, 1.9476, 1.9476),
    "motorcycle-far": (100.94, 11.957, 2.7672, 2.8233),
    "coffee-behind": (121.74, 4.171, 1.4623, 1.4624),
    "rocket-front": (89.37, 7.201, 2.6411, 2.6402),
    "chelsea-mild": (113.23, 3.844, 1.5000, 1.5000),
    "motorcycle-near": (103.65, 3.743, 1.1002, 1.0181),
    "coffee-slant": (113.70, 7.304, 3.0077, 3.0077),
    "astronaut-behind": (126.84, 11.925, 5.0264, 5.0268),
    "chelsea-front": (87.90, 2.815, 1.5991, 1.5992),
    "rocket-slant": (66.80, 1.918, 1.0167, 1.0167),
    "motorcycle-middle": (105.84, 11.325, 3.0055, 2.7993),
    "astronaut-mild": (104.67, 7.783, 2.2500, 2.2500),
    "coffee-front": (109.06, 9.165, 2.1787, 2.1788),
    "rocket-behind": (89.88, 4.002, 1.7442, 1.7440),
    "chelsea-slant": (113.52, 4.683, 1.3886, 1.3886),
    "motorcycle-shallow": (108.10, 7.890, 1.9988, 1.9473),
    "coffee-mild": (101.75, 6.204, 2.5000, 2.5000),
    "astronaut-front": (120.52, 5.417, 2.9269, 2.9259),
    "chelsea-behind": (95.63, 6.945, 4.7137, 4.7139),
    "rocket-mild": (63.24, 3.628, 1.5000, 1.5000),
}


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    scenes, notes = available()
    if notes:
        pytest.skip("; ".join(notes))
    return [photograph(scene) for scene in scenes]


def test_the_views_are_what_each_half_of_the_lens_sees() -> None:
    """Their mean is the picture, but for noise and edges of what stands in front; what is out of
    focus lies apart in them; and without them the picture is the same."""
    scenes = {scene.name: scene for scene in SCENES}
    mild = photograph(scenes["coffee-mild"], views=True)  # 2.5 pixels all over
    np.testing.assert_array_equal(mild.blurry, photograph(scenes["coffee-mild"]).blurry)
    assert mild.left is not None
    assert mild.right is not None
    assert mild.left.dtype == np.uint8
    light = [to_linear(each.astype(np.float32) / 255) for each in (mild.left, mild.right)]
    mean = 255 * to_srgb((light[0] + light[1]) / 2)
    assert np.abs(mean - mild.blurry).mean() < 3
    greys = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float32) for each in light]
    (across, down), _ = cv2.phaseCorrelate(*greys)
    assert 1 < abs(across) < 4
    assert abs(down) < 0.3
    focus = photograph(scenes["coffee-front"], views=True)
    assert focus.left is not None
    assert focus.right is not None
    assert focus.in_focus is not None
    apart = np.abs(focus.left.astype(int) - focus.right).mean(2)
    assert apart[~focus.in_focus].mean() > 2 * apart[focus.in_focus].mean()
    part = focus.cut(Size(64, 32))
    assert part.left is not None
    assert part.left.shape == part.blurry.shape == (32, 64, 3)


def figures(pair: Pair) -> tuple[float, ...]:
    assert pair.radius is not None
    assert pair.seen is not None
    change = np.abs(pair.blurry.astype(np.float64) - pair.sharp).mean()
    means = (pair.blurry.mean(), change, pair.radius.mean(), pair.seen.mean())
    return tuple(float(mean) for mean in means)


def test_the_set_is_the_one_that_was_measured_on(pairs: list[Pair]) -> None:
    found = {pair.name: figures(pair) for pair in pairs}
    assert found.keys() == FIGURES.keys()
    for name, expected in FIGURES.items():
        assert found[name] == pytest.approx(expected, rel=2e-3, abs=2e-3), name


def test_it_is_made_of_all_photos_and_every_band_of_blur(pairs: list[Pair]) -> None:
    assert frozenset().union(*(scene.photos for scene in SCENES)) == set(PHOTOS)
    radius = np.concatenate([p.radius.ravel() for p in pairs if p.radius is not None])
    shares = np.histogram(radius, (0, 0.5, 2, 4, 8, 99))[0] / radius.size
    assert shares.min() > 0.01
    assert shares[:4].min() > 0.15
    assert all(p.blurry.shape == (SIZE.height, SIZE.width, 3) for p in pairs)
    assert sum(p.blurry.shape[0] * p.blurry.shape[1] for p in pairs) < 3e6


def test_rendering_again_gives_the_same_pixels(pairs: list[Pair]) -> None:
    for index in (0, 1, 2):
        again = photograph(SCENES[index])
        np.testing.assert_array_equal(again.blurry, pairs[index].blurry)
        np.testing.assert_array_equal(again.sharp, pairs[index].sharp)


def test_the_truth_is_the_photo_itself(pairs: list[Pair]) -> None:
    """Of one plane, and of the photo that is cut by depth: slices leave no seam."""
    for scene, pair in zip(SCENES, pairs, strict=True):
        first = scene.content if isinstance(scene.content, Depth) else scene.content[0]
        if isinstance(first, Plane) and len(scene.content) > 1:  # type: ignore[arg-type]
            continue
        name = next(iter(scene.photos))
        top, left = first.top + 18, first.left + 18
        photo = evaluation_scenes.load_photo(name)[top : top + 264, left : left + 360]
        assert np.abs(pair.sharp.astype(int) - photo).max() <= 1, scene.name


def test_radii_are_the_disparitys(pairs: list[Pair]) -> None:
    """A thin lens: the blur radius is proportional to the distance in disparity."""
    disparity = evaluation_scenes.load_disparity()
    for scene, pair in zip(SCENES, pairs, strict=True):
        if isinstance(scene.content, Depth):
            depth = scene.content
            window = disparity[depth.top + 18 :][:264, depth.left + 18 :][:, :360]
            expected = np.abs(window - depth.focus) * depth.scale
            np.testing.assert_allclose(pair.radius, expected, atol=1e-4)


def test_what_counts_as_in_focus_looks_so(pairs: list[Pair]) -> None:
    """Where nothing blurred spills over it, only noise parts the picture from its truth."""
    for pair in pairs:
        assert pair.radius is not None
        assert pair.seen is not None
        assert pair.in_focus is not None
        if pair.in_focus.mean() > 0.05:
            blurry, sharp = (image[pair.in_focus] / 255.0 for image in (pair.blurry, pair.sharp))
            assert psnr(blurry, sharp) > 35, pair.name
        assert min(pair.radius.min(), pair.seen.min()) >= 0
        far = np.abs(pair.seen - pair.radius) > 0.5
        assert far.mean() < 0.25, pair.name


def test_a_photo_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = evaluation_scenes.load_photo

    def load(name: str) -> object:
        if name == "rocket":
            raise ModuleNotFoundError("To download all data, install pooch", name="pooch")
        return found(name)

    monkeypatch.setattr(evaluation_scenes, "load_photo", load)
    scenes, notes = available()
    without = [scene for scene in SCENES if "rocket" not in scene.photos]
    assert list(scenes) == without
    (note,) = notes
    assert note.startswith(f"{len(SCENES) - len(without)} of {len(SCENES)} scenes left out")
    assert "rocket" in note
    assert "pooch" in note


def test_without_any_photo_there_is_no_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> object:
        raise OSError(f"{name}: no network")

    monkeypatch.setattr(evaluation_scenes, "load_photo", load)
    with pytest.raises(AllfocusError, match="none of the set's photos is there: astronaut: no"):
        available()


def test_views_tell_what_is_before_the_focus_from_what_is_behind() -> None:
    """In a slanted plane through the focus the views are shifted one way above, the other below."""
    scenes = {scene.name: scene for scene in available()[0]}
    if "rocket-slant" not in scenes:
        pytest.skip("no photo rocket")
    pair = photograph(scenes["rocket-slant"], views=True)
    assert pair.left is not None
    assert pair.right is not None
    left, right = (v.astype(np.float32).mean(axis=2) for v in (pair.left, pair.right))
    signs = []
    for rows in (slice(0, 60), slice(-60, None)):
        (shift, _), _ = cv2.phaseCorrelate(left[rows], right[rows])
        signs.append(shift)
    assert signs[0] * signs[1] < 0
    assert min(map(abs, signs)) > 0.3
