"""Out-of-focus pictures made from sharp ones, in linear light, with what a camera adds to them.

A scene is a stack of layers, back to front. Each layer has a texture, a coverage and a plane of
blur radii (constant, or slanted through the depth of field). Layers are blurred before they are
laid over one another, so that a sharp edge does not smear what lies behind it, and a blurred
foreground does. Then come exposure, noise, the sRGB curve, 8 bits and, at times, JPEG.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.train.psf import Aperture, random_aperture

Image = NDArray[np.float32]
Texture = Callable[[np.random.Generator, int], Image]  # (rng, side) -> linear RGB [side, side, 3]
_LEVEL_STEP = 0.75  # pixels of radius between the blurs that a slanted plane is mixed from


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Shares and ranges that crops are drawn from; radii in pixels.

    Real photos hold blur beyond what a net can undo. A net that has never seen it takes it for less
    and paints ripples, so a share of the planes lies there.
    """

    max_radius: float = 8.0
    beyond_radius: float = 16.0
    beyond_share: float = 0.15  # planes blurred by max_radius to beyond_radius
    sharp_share: float = 0.25  # crops in focus all over
    layered_share: float = 0.4  # crops with something in front
    slanted_share: float = 0.4  # planes whose blur changes across the crop
    graphics_share: float = 0.15  # layers that are drawn graphics instead of a photo
    jpeg_share: float = 0.5
    small_radii: float = 1.5  # radii are max_radius * u ** small_radii, u uniform
    views: bool = False  # dual-pixel views are wanted too
    misaligned: bool = False  # a sharp picture slightly displaced is wanted too


@dataclass(frozen=True)
class Sample:
    """One training sample. Images are sRGB-coded float32 [H, W, 3] in [0, 1]."""

    blurry: Image
    sharp: Image
    radius: Image  # [H, W], pixels; that of the front-most layer
    left: Image | None = None  # dual-pixel views of the blurry picture
    right: Image | None = None
    moved: Image | None = None  # the sharp picture slightly shifted, zoomed and warped


@dataclass(frozen=True)
class Layer:
    """Linear RGB [H, W, 3], coverage [H, W] in [0, 1] and blur radius [H, W] in pixels."""

    texture: Image
    coverage: Image
    radius: Image


def to_linear(code: Image) -> Image:
    """sRGB code values in [0, 1] -> linear light (IEC 61966-2-1)."""
    low = code / 12.92
    high = ((np.maximum(code, 0.0) + 0.055) / 1.055) ** 2.4
    return np.where(code <= 0.04045, low, high).astype(np.float32)


def to_srgb(linear: Image) -> Image:
    """Linear light in [0, 1] -> sRGB code values (IEC 61966-2-1)."""
    low = linear * 12.92
    high = 1.055 * np.maximum(linear, 0.0) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, low, high).astype(np.float32)


def render(layers: list[Layer], lens: Aperture) -> tuple[Image, Image, Image]:
    """Photograph `layers`, back to front: (blurry, sharp) linear [H, W, 3] and radius [H, W]."""
    blurry = sharp = np.zeros_like(layers[0].texture)
    radius = layers[0].radius
    for layer in layers:
        solid = layer.coverage[..., None]
        flat = np.concatenate((layer.texture * solid, solid), axis=2)  # premultiplied RGBA
        soft = _blur_plane(flat, layer.radius, lens)
        blurry = soft[..., :3] + blurry * (1 - soft[..., 3:])
        sharp = flat[..., :3] + sharp * (1 - solid)
        radius = np.where(layer.coverage > 0.5, layer.radius, radius)
    return blurry, sharp, radius


def _blur_plane(image: Image, radius: Image, lens: Aperture) -> Image:
    """Blur [H, W, C] by `radius` [H, W], mixing the two nearest of a few uniform blurs."""
    low, high = float(radius.min()), float(radius.max())
    count = 1 + math.ceil((high - low) / _LEVEL_STEP)
    levels = np.linspace(low, high, count)
    blurs = [_blur(image, lens.kernel(level)) for level in levels]
    if count == 1:
        return blurs[0]
    position = (radius - low) / (high - low) * (count - 1)
    out = np.zeros_like(image)
    for index, blurred in enumerate(blurs):
        weight = np.clip(1 - np.abs(position - index), 0, 1)
        out += weight[..., None].astype(np.float32) * blurred
    return out


def _blur(image: Image, kernel: Image) -> Image:
    if kernel.shape == (1, 1):
        return image
    # filter2D correlates; a PSF convolves, which for polygons is a half turn.
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    blurred = cv2.filter2D(image, cv2.CV_32F, turned, borderType=cv2.BORDER_REFLECT_101)
    return blurred.astype(np.float32, copy=False)


def draw(rng: np.random.Generator, texture: Texture, side: int, recipe: Recipe) -> Sample:
    """One sample of `side` x `side` pixels, drawn from `rng` alone."""
    largest = max(recipe.max_radius, recipe.beyond_radius)
    margin = math.ceil(1.5 * largest) + 1  # what blurs into the crop from outside it
    lens = random_aperture(rng)
    layers = _draw_layers(rng, texture, side + 2 * margin, recipe)
    gain = rng.uniform(0.5, 1.3)
    cut = (slice(margin, margin + side),) * 2
    blurry, sharp, radius = (part[cut] for part in render(layers, lens))
    clean, taken = to_srgb(_clip(sharp * gain)), _camera(rng, blurry * gain, recipe)
    return Sample(taken, _target(clean, taken, radius), np.ascontiguousarray(radius))


def _draw_layers(
    rng: np.random.Generator, texture: Texture, side: int, recipe: Recipe
) -> list[Layer]:
    everything = np.ones((side, side), np.float32)
    if rng.random() < recipe.sharp_share:
        return [Layer(texture(rng, side), everything, np.zeros_like(everything))]
    layers = [Layer(texture(rng, side), everything, _draw_plane(rng, side, recipe))]
    if rng.random() < recipe.layered_share:
        plane = np.zeros_like(everything) if rng.random() < 0.5 else _draw_plane(rng, side, recipe)
        layers.append(Layer(texture(rng, side), _draw_coverage(rng, side), plane))
    return layers


def _draw_plane(rng: np.random.Generator, side: int, recipe: Recipe) -> Image:
    """Radii [side, side] of a plane: signed blur grows linearly, through focus at times."""
    if rng.random() < recipe.beyond_share:
        return np.full(
            (side, side), rng.uniform(recipe.max_radius, recipe.beyond_radius), np.float32
        )
    middle = recipe.max_radius * rng.random() ** recipe.small_radii
    if rng.random() >= recipe.slanted_share:
        return np.full((side, side), middle, np.float32)
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, 6.0) / side
    y, x = np.mgrid[:side, :side].astype(np.float32) - side / 2
    signed = middle + slope * (math.cos(angle) * x + math.sin(angle) * y)
    return np.asarray(np.minimum(np.abs(signed), recipe.max_radius), np.float32)


def _draw_coverage(rng: np.random.Generator, side: int) -> Image:
    """A random shape with an antialiased outline: a level set of smooth noise, or a half plane."""
    if rng.random() < 0.3:
        angle = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[:side, :side].astype(np.float32) - side / 2
        distance = math.cos(angle) * x + math.sin(angle) * y + rng.uniform(-0.2, 0.2) * side
        return _clip(distance + 0.5)
    cells = int(rng.integers(3, 8))
    noise = rng.standard_normal((cells, cells)).astype(np.float32)
    field = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return _clip(field * (0.5 * side / cells) + 0.5)


def _clip(values: NDArray[Any]) -> Image:
    """To [0, 1], as float32."""
    return np.asarray(np.clip(values, 0, 1), np.float32)


def _camera(rng: np.random.Generator, linear: Image, recipe: Recipe) -> Image:
    """Linear light -> what a camera writes: shot and read noise, sRGB, 8 bits, at times JPEG."""
    shot, read = 10 ** rng.uniform(-5.0, -3.2), 10 ** rng.uniform(-3.5, -2.3)
    spread = np.sqrt(np.maximum(linear, 0) * shot + read**2)
    noisy = linear + spread * rng.standard_normal(linear.shape, dtype=np.float32)
    code = np.rint(255 * to_srgb(_clip(noisy))).astype(np.uint8)
    if rng.random() < recipe.jpeg_share:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 99))]
        coded = cv2.imencode(".jpg", code[..., ::-1], quality)[1]  # OpenCV's order is BGR
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        code = decoded[..., ::-1].astype(np.uint8)
    return code.astype(np.float32) / np.float32(255)


def _target(clean: Image, taken: Image, radius: Image) -> Image:
    """The picture to aim for: clean where blurred, the camera's own pixels where in focus.

    A deblurrer that is taught to denoise and to undo JPEG everywhere changes what was in focus; its
    user wants that part as it was taken. Between radii of 0.4 and 1 pixel one fades to the other.
    """
    t = _clip((radius - 0.4) / 0.6)[..., None]
    fade = t * t * (3 - 2 * t)
    return np.asarray(taken + fade * (clean - taken), np.float32)
