"""Out-of-focus pictures made from sharp ones, in linear light, with what a camera adds to them.

A scene is a stack of layers, back to front (`scenes`, or `disparity` for a photo with its depth).
Each is blurred and laid over those behind (`render`). Then come exposure, noise, the sRGB curve,
8 bits and, at times, JPEG (`camera`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allfocus.train.camera import Image, Noise, clip, random_noise, take, to_linear, to_srgb
from allfocus.train.misalign import draw_flow, warp
from allfocus.train.psf import Aperture, random_aperture
from allfocus.train.render import (
    Layer,
    lay_sharp,
    render,
    render_views,
    seen_radius,
    visible_radius,
)
from allfocus.train.scenes import Recipe, Texture, draw_layers, rich

__all__ = [
    "PICTURES",
    "Image",
    "Layer",
    "Recipe",
    "Sample",
    "Texture",
    "draw",
    "margin_of",
    "photograph",
    "render",
    "rich",
    "to_linear",
    "to_srgb",
]
IN_FOCUS = 0.5  # pixels of radius: what is blurred less counts as in focus


PICTURES = ("blurry", "sharp", "left", "right", "moved")  # the fields of a Sample that are images
PLANES = ("radius", "seen")  # those that are maps of radii


@dataclass(frozen=True)
class Sample:
    """One training sample. Images are sRGB-coded float32 [H, W, 3] in [0, 1].

    `left` and `right` are the dual-pixel views, `moved` a sharp picture that does not lie over the
    blurry one; None where the recipe or the data set has none. `seen` is what tells what is in
    focus: the mean radius of what a pixel's light comes from, which is above `radius` where
    something blurred in front spills over it; None where a data set knows the front-most alone.
    """

    blurry: Image
    sharp: Image
    radius: Image  # [H, W], pixels; that of the front-most layer
    left: Image | None = None
    right: Image | None = None
    moved: Image | None = None
    seen: Image | None = None  # [H, W], pixels

    @property
    def in_focus(self) -> NDArray[np.bool_]:
        """Where the radius that is seen is under half a pixel, [H, W]."""
        return (self.radius if self.seen is None else self.seen) < IN_FOCUS


def draw(rng: np.random.Generator, texture: Texture, side: int, recipe: Recipe) -> Sample:
    """One sample of `side` x `side` pixels, drawn from `rng` alone."""
    margin = margin_of(recipe)
    lens = random_aperture(rng, recipe.shapes)
    layers = draw_layers(rng, texture, side + 2 * margin, recipe)
    return photograph(rng, layers, lens, recipe, margin)


def margin_of(recipe: Recipe) -> int:
    """Pixels around a crop from which light blurs into it."""
    return math.ceil(1.5 * max(recipe.max_radius, recipe.beyond_radius)) + 1


def photograph(
    rng: np.random.Generator, layers: list[Layer], lens: Aperture, recipe: Recipe, margin: int
) -> Sample:
    """What a camera makes of `layers`, less `margin` pixels on each side.

    Views and the moved picture draw from `rng` after all else: without them the rest is the same,
    but for edges of things in front (see `render_views`).
    """
    gain = rng.uniform(0.5, 1.3)
    inner = slice(margin, layers[0].texture.shape[0] - margin)
    cut = (inner, inner)
    views = render_views(layers, lens) if recipe.views else None
    sharp, radius = lay_sharp(layers) * gain, np.ascontiguousarray(visible_radius(layers)[cut])
    blurry = np.float32(0.5) * (views[0] + views[1]) if views else render(layers, lens)[0]
    noise = random_noise(rng)
    clean, taken = to_srgb(clip(sharp)), take(rng, blurry[cut] * gain, noise, recipe.jpeg_share)
    # Each view has half the light. Views come from raw files: no JPEG.
    dark = Noise(2 * noise.shot, 2 * noise.read)
    left, right = (
        (take(rng, view[cut] * gain, dark, 0.0) for view in views) if views else (None, None)
    )
    moved = _moved(rng, clean, recipe)[cut] if recipe.misaligned else None
    # What a blurred foreground spills over is not in focus; one layer alone spills over nothing.
    seen = np.ascontiguousarray(seen_radius(layers, lens)[cut]) if len(layers) > 1 else radius
    sharp = _target(clean[cut], taken, np.maximum(radius, seen))
    return Sample(taken, sharp, radius, left, right, moved, seen)


def _moved(rng: np.random.Generator, clean: Image, recipe: Recipe) -> Image:
    flow = draw_flow(rng, len(clean), shift=recipe.shift, zoom=recipe.zoom, flow=recipe.flow)
    return clip(warp(clean, flow))


def _target(clean: Image, taken: Image, radius: Image) -> Image:
    """The picture to aim for: clean where blurred, the camera's own pixels where in focus.

    A deblurrer that is taught to denoise and to undo JPEG everywhere changes what was in focus; its
    user wants that part as it was taken. It is not in focus where something blurred in front spills
    over it: `radius` is that of all the light that falls there. Between 0.4 and 1 pixel one fades
    to the other.
    """
    t = clip((radius - 0.4) / 0.6)[..., None]
    fade = t * t * (3 - 2 * t)
    return np.asarray(taken + fade * (clean - taken), np.float32)
