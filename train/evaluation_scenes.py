"""The scenes of `evaluation_set`, rendered: the same pictures on every machine, but for rounding.

Photos are those of scikit-image. Its wheels bring them along; where one is missing and cannot be
downloaded either, the scenes that need it are left out, and named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.runtime.errors import AllfocusError
from allfocus.train.evaluation_pair import Frame, Pair
from allfocus.train.evaluation_set import MARGIN, SCENES, SIZE, STEREO, Depth, Plane, Scene
from allfocus.train.render import Layer, render, render_views, seen_radius
from allfocus.train.synthetic import Image, to_linear, to_srgb

_CELLS = 4  # of the smooth noise whose level set is a blob, along each side
_SLICE = 1.0  # pixels of radius that one slice of true depth spans at most


def available() -> tuple[tuple[Scene, ...], tuple[str, ...]]:
    """(the scenes whose photos are there, a note for each photo that is not)."""
    wanted = sorted(frozenset().union(*(scene.photos for scene in SCENES)))
    problems = {name: problem for name in wanted if (problem := _problem(name))}
    usable = tuple(scene for scene in SCENES if not scene.photos & set(problems))
    if not usable:
        raise AllfocusError(f"none of the set's photos is there: {'; '.join(problems.values())}")
    notes = (
        f"{sum(name in scene.photos for scene in SCENES)} of {len(SCENES)} scenes left out: "
        f"no photo {name} ({problem})"
        for name, problem in problems.items()
    )
    return usable, tuple(notes)


def photograph(scene: Scene, *, views: bool = False) -> Pair:
    """The scene's picture, as a camera writes it, with its truth; 8 bits, RGB.

    The truth is the sharp picture without noise. `views`: what each half of the lens sees, too,
    with the noise of half the light.
    """
    content = scene.content
    if isinstance(content, Depth):
        layers = _slices(content)
    else:
        layers = [_layer(plane) for plane in content]
    cut = (slice(MARGIN, -MARGIN),) * 2
    blurry, sharp, radius = (part[cut] for part in render(layers, scene.lens))
    seen = seen_radius(layers, scene.lens)[cut]
    taken = _taken(blurry, scene.shot, scene.read, scene.seed)
    shown, mean = (np.maximum(plane, 0).astype(np.float32) for plane in (radius, seen))
    halves = render_views(layers, scene.lens) if views else ()
    sides = (
        _taken(half[cut], 2 * scene.shot, 2 * scene.read, (scene.seed, number))
        for number, half in enumerate(halves)
    )
    return Pair(scene.name, taken, _code(sharp), shown, mean, *sides)


@cache
def load_photo(name: str) -> NDArray[np.uint8]:
    """A photo of scikit-image, uint8 RGB [H, W, 3]; raises what scikit-image does without it."""
    data = _photos()
    photo = data.stereo_motorcycle()[0] if name == STEREO else getattr(data, name)()
    return np.asarray(photo, np.uint8)


@cache
def load_disparity() -> Image:
    """The stereo photo's true disparity [H, W] in pixels, without holes.

    What only one of the two cameras sees has none; it is taken to be as far as the farther of its
    neighbours to the left and right, being what the nearer one hides.
    """
    known = np.asarray(_photos().stereo_motorcycle()[2], np.float32)
    known = np.where(np.isfinite(known), known, np.nan)
    filled = np.fmin(_carried(known), _carried(known[:, ::-1])[:, ::-1])
    return np.asarray(cv2.medianBlur(np.ascontiguousarray(filled), 5), np.float32)


def _photos() -> Any:
    """scikit-image's photos; it has no types."""
    return import_module("skimage.data")


def _carried(values: Image) -> Image:
    """Each NaN replaced by the last number to its left, if there is one."""
    places = np.where(np.isnan(values), 0, np.arange(values.shape[1]))
    return np.take_along_axis(values, np.maximum.accumulate(places, axis=1), axis=1)


def _problem(name: str) -> str:
    """Why the photo cannot be had; empty where it can."""
    try:
        load_photo(name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("skimage"):
            raise  # the package itself: the command line says how to install it
        return str(error)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def _taken(linear: Image, shot: float, read: float, seed: int | Sequence[int]) -> Frame:
    """With a sensor's noise, as `Scene` has it."""
    random = np.random.default_rng(seed).standard_normal(linear.shape, np.float32)
    return _code(linear + random * np.sqrt(np.maximum(linear, 0) * shot + read**2))


def _code(linear: Image) -> Frame:
    return np.rint(255 * to_srgb(np.clip(linear, 0, 1))).astype(np.uint8)


def _window(image: NDArray[np.generic], left: int, top: int) -> NDArray[np.generic]:
    height, width = SIZE.height + 2 * MARGIN, SIZE.width + 2 * MARGIN
    cut = image[top : top + height, left : left + width]
    assert cut.shape[:2] == (height, width), "the window must lie inside the photo"
    return cut


def _texture(photo: str, left: int, top: int) -> Image:
    code = _window(load_photo(photo), left, top)
    return to_linear(code.astype(np.float32) / np.float32(255))


def _layer(plane: Plane) -> Layer:
    texture = _texture(plane.photo, plane.left, plane.top)
    height, width = texture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn = math.radians(plane.angle)
    along = math.cos(turn) * (x / (width - 1) - 0.5) + math.sin(turn) * (y / (height - 1) - 0.5)
    reach = 0.5 * (abs(math.cos(turn)) + abs(math.sin(turn)))  # of `along`, to either side
    share = 0.5 + 0.5 * along / np.float32(reach)
    radius = (plane.start + (plane.end - plane.start) * share).astype(np.float32)
    return Layer(texture, _coverage(plane.blob, height, width), radius)


def _coverage(blob: int | None, height: int, width: int) -> Image:
    """[H, W]: 1 inside a blob, 0 outside, with an antialiased outline; 1 all over without one."""
    if blob is None:
        return np.ones((height, width), np.float32)
    cells = np.random.default_rng(blob).standard_normal((_CELLS, _CELLS)).astype(np.float32)
    field = cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
    edge = np.asarray(field * np.float32(0.5 * height / _CELLS) + 0.5, np.float32)
    return np.clip(edge, 0, 1)


def _slices(depth: Depth) -> list[Layer]:
    """The stereo photo's window, cut by depth into layers, back to front.

    Each layer goes on beneath the nearer ones, so that a blurred edge in front shows something
    behind it: as the photo for one slice more (a surface is cut, not ended, there), then as a
    smooth guess.
    """
    texture = _texture(STEREO, depth.left, depth.top)
    disparity = _window(load_disparity(), depth.left, depth.top).astype(np.float32)
    low, high = float(disparity.min()), float(disparity.max())
    count = math.ceil((high - low) * depth.scale / _SLICE)
    thick = (high - low) / count
    layers = []
    for start in np.linspace(low, high, count, endpoint=False):
        covered = disparity >= start
        known = covered & (disparity < start + 2 * thick)
        if known.any():
            seen = np.clip(disparity, start, start + 2 * thick)
            radius = ((depth.focus - seen) * depth.scale).astype(np.float32)
            layers.append(Layer(_filled(texture, known), covered.astype(np.float32), radius))
    return layers


def _filled(image: Image, known: NDArray[np.bool_]) -> Image:
    """`image` [H, W, 3] where it is known, a smooth guess from that elsewhere."""
    solid = known.astype(np.float32)[..., None]
    return _pulled(np.concatenate((image * solid, solid), axis=2))


def _pulled(image: Image) -> Image:
    """[H, W, 4], premultiplied -> [H, W, 3]: what is missing comes from half the resolution."""
    color, solid = image[..., :3], image[..., 3:]
    if min(image.shape[:2]) < 4:
        return np.asarray(color / np.maximum(solid, 1e-6), np.float32)
    height, width = image.shape[:2]
    below = cv2.pyrUp(_pulled(np.asarray(cv2.pyrDown(image), np.float32)), dstsize=(width, height))
    return np.asarray(color + (1 - solid) * below, np.float32)
