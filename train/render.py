"""How a lens draws a scene of layers: blurred each, then laid over one another, back to front.

Layers are blurred before they are laid over one another, so that a sharp edge does not smear what
lies behind it, and a blurred foreground does. All is linear light.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np

from allfocus.train.camera import Image
from allfocus.train.psf import Aperture, Kernel

Kernels = Callable[[float], Kernel]  # of a radius in pixels
Blur = Callable[[Image, Image], Image]  # an image and its signed radii -> the image blurred

_LEVEL_STEP = 0.75  # pixels of radius between the blurs that a slanted plane is mixed from


@dataclass(frozen=True)
class Layer:
    """Linear RGB [H, W, 3], coverage [H, W] in [0, 1] and blur radius [H, W] in pixels.

    The radius is signed: above zero behind the plane in focus, below zero in front of it. The two
    look different in dual-pixel views, and through an opening that half a turn changes.
    """

    texture: Image
    coverage: Image
    radius: Image


def render(layers: list[Layer], lens: Aperture) -> tuple[Image, Image, Image]:
    """Photograph `layers`, back to front: (blurry, sharp) linear [H, W, 3] and radius [H, W].

    The radius is that of the front-most layer, in pixels, at least 0.
    """

    return _lay(layers, _whole(lens)), lay_sharp(layers), visible_radius(layers)


def render_views(layers: list[Layer], lens: Aperture) -> tuple[Image, Image]:
    """The dual-pixel views (left, right), linear [H, W, 3]: what each half of the lens sees.

    Their mean is the picture that the whole lens makes. For one layer it is that of `render`; where
    one layer covers another, each half sees past its edge on its own, as in a camera.
    """
    halves = (partial(lens.half, left=left) for left in (True, False))
    left, right = (_lay(layers, partial(_blur_sides, half)) for half in halves)
    return left, right


def lay_sharp(layers: list[Layer]) -> Image:
    """The scene all in focus, linear [H, W, 3]."""
    return _lay(layers, lambda image, _: image)


def visible_radius(layers: list[Layer]) -> Image:
    """The blur radius [H, W], in pixels, of the front-most layer."""
    radius = layers[0].radius
    for layer in layers:
        radius = np.where(layer.coverage > 0.5, layer.radius, radius)
    return np.abs(radius)


def seen_radius(layers: list[Layer], lens: Aperture) -> Image:
    """The mean blur radius [H, W], in pixels, of what a pixel's light comes from.

    Above `visible_radius` where something blurred in front spills over what is in focus behind it.
    """

    shown = [replace(layer, texture=np.abs(layer.radius)[..., None]) for layer in layers]
    return _lay(shown, _whole(lens))[..., 0]


def _lay(layers: list[Layer], blur: Blur) -> Image:
    out = np.zeros_like(layers[0].texture)
    for layer in layers:
        solid = layer.coverage[..., None]
        flat = np.concatenate((layer.texture * solid, solid), axis=2)  # premultiplied
        soft = blur(flat, layer.radius)
        out = soft[..., :-1] + out * (1 - soft[..., -1:])
    return out


def _whole(lens: Aperture) -> Blur:
    """How the whole lens blurs a plane by its signed radii."""
    if lens.same_turned:
        return lambda image, radius: _blur_plane(image, np.abs(radius), lens.kernel)
    return partial(_blur_sides, lens.kernel)


def _blur_sides(kernel: Kernels, image: Image, radius: Image) -> Image:
    """Blur a plane by signed radii: what stands before the plane in focus, where the rays have not
    crossed yet, shows the lens's opening turned by half a turn. So halves change sides."""
    size = np.abs(radius)
    sides = [sign for sign in (1, -1) if (sign * radius > 0).any()] or [1]
    kernels = {1: kernel, -1: lambda r: np.ascontiguousarray(kernel(r)[::-1, ::-1])}
    parts = [_blur_plane(image, size, kernels[sign]) for sign in sides]
    if len(parts) == 1:
        return parts[0]
    return np.where(radius[..., None] >= 0, parts[0], parts[1])


def _blur_plane(image: Image, radius: Image, kernel: Kernels) -> Image:
    """Blur [H, W, C] by `radius` [H, W], mixing the two nearest of a few uniform blurs."""
    low, high = float(radius.min()), float(radius.max())
    count = 1 + math.ceil((high - low) / _LEVEL_STEP)
    levels = np.linspace(low, high, count)
    blurs = [convolve(image, kernel(level)) for level in levels]
    if count == 1:
        return blurs[0]
    position = (radius - low) / (high - low) * (count - 1)
    out = np.zeros_like(image)
    for index, blurred in enumerate(blurs):
        weight = np.clip(1 - np.abs(position - index), 0, 1)
        out += weight[..., None].astype(np.float32) * blurred
    return out


def convolve(image: Image, kernel: Kernel) -> Image:
    """Convolve [H, W] or [H, W, C] with a PSF [K, K]; the border is mirrored."""
    if kernel.shape == (1, 1):
        return image
    # filter2D correlates; a PSF convolves, which for polygons is a half turn.
    turned = np.ascontiguousarray(kernel[::-1, ::-1])
    blurred = cv2.filter2D(image, cv2.CV_32F, turned, borderType=cv2.BORDER_REFLECT_101)
    return blurred.astype(np.float32, copy=False)
