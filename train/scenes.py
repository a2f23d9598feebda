"""Scenes drawn at random: layers with a texture, a coverage and a plane of blur radii each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from allfocus.train.camera import Image, clip, to_linear
from allfocus.train.dead_leaves import draw_cover, draw_leaves
from allfocus.train.psf import CLASSIC, SHAPES, Shape
from allfocus.train.render import Layer
from allfocus.train.thin_lens import random_planes

Texture = Callable[[np.random.Generator, int], Image]  # (rng, side) -> linear RGB [side, side, 3]

_LINEAR = to_linear((np.arange(256) / 255).astype(np.float32))  # of each 8-bit code


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Shares and ranges that crops are drawn from; radii in pixels.

    Real photos hold blur beyond what a net can undo. A net that has never seen it takes it for less
    and paints ripples, so a share of the planes lies there. What is 0, False or CLASSIC by default
    came later: without it, a seed draws what it drew in version 0.1. `rich` has it all.

    Few pictures are sharp to the pixel, and many have parts that were out of focus when they were
    taken. A net that has only seen textures reduced to the sharpest takes those for blurred by what
    it should undo, and overdoes it: `soft_share`. With 0.65 instead of 0.25, 800 more steps gave
    didanet-lite 0.08 dB more on the evaluation set, and left what is in focus more alone.
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
    shapes: tuple[Shape, ...] = CLASSIC  # of the blur
    soft_share: float = 0.0  # photos that are enlarged, up to 1.8 times
    leaves_share: float = 0.0  # layers that are dead leaves instead of a photo
    lens_share: float = 0.0  # crops whose planes all stand before one thin lens
    crowded_share: float = 0.0  # crops with dead leaves at 3 to 5 depths before a thin lens
    both_sides: bool = False  # planes stand before the focus too, and none behind what it hides
    views: bool = False  # dual-pixel views too
    misaligned: bool = False  # a sharp picture that does not lie over the blurry one, too
    shift: float = 3.0  # pixels: how far that one is shifted, at most
    zoom: float = 0.01  # 1 is twice as large: how far it is zoomed, at most
    flow: float = 1.0  # pixels: root mean square of its smooth local displacement


def rich(max_radius: float = 8.0, *, views: bool = False, misaligned: bool = False) -> Recipe:
    """Everything there is: all blur shapes, dead leaves, thin lenses."""
    return Recipe(
        max_radius=max_radius,
        beyond_radius=max(16.0, 2 * max_radius),
        shapes=SHAPES,
        graphics_share=0.08,
        soft_share=0.65,
        leaves_share=0.05,
        lens_share=0.4,
        crowded_share=0.03,
        both_sides=True,
        views=views,
        misaligned=misaligned,
    )


def draw_layers(
    rng: np.random.Generator, texture: Texture, side: int, recipe: Recipe
) -> list[Layer]:
    """The layers of a crop, back to front, [side, side] each."""
    everything = np.ones((side, side), np.float32)
    if rng.random() < recipe.sharp_share:
        return [Layer(texture(rng, side), everything, np.zeros_like(everything))]
    if recipe.crowded_share and rng.random() < recipe.crowded_share:
        return _before_lens(rng, leaves_texture, draw_cover, side, recipe, int(rng.integers(3, 6)))
    if recipe.lens_share and rng.random() < recipe.lens_share:
        count = int(rng.integers(2, 4)) if rng.random() < recipe.layered_share else 1
        return _before_lens(rng, texture, _draw_coverage, side, recipe, count)
    layers = [Layer(texture(rng, side), everything, _draw_plane(rng, side, recipe))]
    if rng.random() < recipe.layered_share:
        plane = np.zeros_like(everything) if rng.random() < 0.5 else _draw_plane(rng, side, recipe)
        layers.append(Layer(texture(rng, side), _draw_coverage(rng, side), plane))
    return _on_both_sides(rng, layers) if recipe.both_sides else layers


def _on_both_sides(rng: np.random.Generator, layers: list[Layer]) -> list[Layer]:
    """The same behind the plane in focus or before it, by chance; the nearer one, whose signed
    radius is the lower, in front."""
    planes = [(1 if rng.random() < 0.5 else -1) * layer.radius for layer in layers]
    planes.sort(key=_middle, reverse=True)
    return [replace(layer, radius=plane) for layer, plane in zip(layers, planes, strict=True)]


def leaves_texture(rng: np.random.Generator, side: int) -> Image:
    """Dead leaves in linear light, [side, side, 3]."""
    return _LINEAR[draw_leaves(rng, side)]


def _before_lens(
    rng: np.random.Generator,
    texture: Texture,
    cover: Callable[[np.random.Generator, int], Image],
    side: int,
    recipe: Recipe,
    count: int,
) -> list[Layer]:
    """Layers at `count` depths, back to front, blurred as one thin lens blurs them."""
    largest = recipe.max_radius * rng.random() ** recipe.small_radii
    if rng.random() < recipe.beyond_share:
        largest = rng.uniform(recipe.max_radius, recipe.beyond_radius)
    radii = random_planes(rng, count, max(largest, 0.1))
    solid = np.ones((side, side), np.float32)
    covers = [solid, *(cover(rng, side) for _ in radii[1:])]
    limit = max(recipe.max_radius, largest)
    return [
        Layer(texture(rng, side), covers[index], _tilt(rng, side, radius, limit, recipe))
        for index, radius in enumerate(radii)
    ]


def _tilt(
    rng: np.random.Generator, side: int, middle: float, largest: float, recipe: Recipe
) -> Image:
    """Signed radii of a plane of radius `middle` at its centre, slanted at times."""
    if rng.random() >= recipe.slanted_share:
        return np.full((side, side), middle, np.float32)
    return _slant(rng, side, middle, largest)


def _draw_plane(rng: np.random.Generator, side: int, recipe: Recipe) -> Image:
    """Signed radii [side, side] of a plane: blur grows linearly, through focus at times."""
    if rng.random() < recipe.beyond_share:
        return np.full(
            (side, side), rng.uniform(recipe.max_radius, recipe.beyond_radius), np.float32
        )
    middle = recipe.max_radius * rng.random() ** recipe.small_radii
    if rng.random() >= recipe.slanted_share:
        return np.full((side, side), middle, np.float32)
    return _slant(rng, side, middle, recipe.max_radius)


def _middle(plane: Image) -> float:
    """The signed radius in the middle of a plane."""
    return float(plane[plane.shape[0] // 2, plane.shape[1] // 2])


def _slant(rng: np.random.Generator, side: int, middle: float, largest: float) -> Image:
    angle, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0, 6.0) / side
    y, x = np.mgrid[:side, :side].astype(np.float32) - side / 2
    signed = middle + slope * (math.cos(angle) * x + math.sin(angle) * y)
    return np.asarray(np.clip(signed, -largest, largest), np.float32)


def _draw_coverage(rng: np.random.Generator, side: int) -> Image:
    """A random shape with an antialiased outline: a level set of smooth noise, or a half plane."""
    if rng.random() < 0.3:
        angle = rng.uniform(0, 2 * math.pi)
        y, x = np.mgrid[:side, :side].astype(np.float32) - side / 2
        distance = math.cos(angle) * x + math.sin(angle) * y + rng.uniform(-0.2, 0.2) * side
        return clip(distance + 0.5)
    cells = int(rng.integers(3, 8))
    noise = rng.standard_normal((cells, cells)).astype(np.float32)
    field = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return clip(field * (0.5 * side / cells) + 0.5)
