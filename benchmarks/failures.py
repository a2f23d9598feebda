"""What goes wrong with deblurred pictures, made on purpose: to see whether it is noticed.

Pictures are float32 [H, W, 3] in [0, 1]. A failure is put into a part of a picture with an
irregular outline, and reported with the pixels where it changed anything.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from allfocus.export.packaged import read_header

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

PERIOD = 8.0  # pixels from crest to crest of ringing
GAIN = 1.2  # by how much of itself ringing raises the frequency it has most of
CONTRAST = 0.06  # of white: the standard deviation of drawn texture
_CELL = 40.0  # pixels: size of an outline's lobes
_EDGE = 4.0  # pixels over which a failure sets in
_VISIBLE = 5 / 255  # of white: a failure is where it changes a neighbourhood by so much
_NEAR = 3.0  # pixels: a neighbourhood
_ROTTEN = 0.02  # share of a damaged layer's weights
_BIT = 0x1000  # of a float16: the weight becomes 16 times larger, or smaller
_BETWEEN = 12  # pixels around a failure that count neither way, as what is seen of it is not sharp


@dataclass(frozen=True)
class Spoilt:
    """A picture with a failure in it: where it is one, and where it is as it was."""

    image: Image
    failed: Mask
    good: Mask


def outline(shape: tuple[int, int], seed: int, share: float = 0.3) -> Mask:
    """Some patches that cover `share` of [H, W]."""
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), _CELL)
    return np.asarray(smooth > np.quantile(smooth, 1 - share))


def ringing(image: Image, period: float = PERIOD) -> Image:
    """Ripples along edges, as deconvolution under a wrong kernel leaves them."""
    reach = int(2 * period)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    away = np.hypot(y, x)
    waves = np.cos(2 * np.pi * away / period) * np.exp(-away / period)
    rings = waves - waves.mean()  # a flat part stays as it is
    kernel = rings / np.abs(np.fft.fft2(rings, (256, 256))).max()
    ripples = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(image + np.float32(GAIN) * ripples)


def painted(image: Image, texture: Image) -> Image:
    """The fine structure of another picture on top, as a net that invents it would draw it."""
    detail = texture - cv2.GaussianBlur(texture, (0, 0), _CELL / 5)
    extent = (image.shape[1], image.shape[0])
    fine = np.asarray(cv2.resize(detail, extent, interpolation=cv2.INTER_LANCZOS4))
    return np.asarray(image + np.float32(CONTRAST / fine.std()) * fine)


def spoilt(image: Image, failed: Image, where: Mask) -> Spoilt:
    """`image` with `failed` put into `where` [H, W], rounded to 8 bits."""
    share = cv2.GaussianBlur(where.astype(np.float32), (0, 0), _EDGE)[..., None]
    return compared(image, image * (1 - share) + failed * share)


def compared(image: Image, other: Image) -> Spoilt:
    """`other` in 8 bits, and where it differs from `image` visibly."""
    levels = np.rint(255 * np.clip(other, 0, 1)).astype(np.float32) / np.float32(255)
    squares = cv2.GaussianBlur(((levels - image) ** 2).mean(2), (0, 0), _NEAR)
    failed = squares > np.float32(_VISIBLE**2)
    near = cv2.dilate(failed.astype(np.uint8), np.ones((2 * _BETWEEN + 1,) * 2, np.uint8))
    return Spoilt(levels, failed, near == 0)


def damaged(onnx: Path, folder: Path) -> Path:
    """A copy in `folder` of a packaged model with some bits turned over, which still runs: `load`
    refuses it, but with `canary=False`.

    It is an exponent's bit of some weights of the last of the largest layers, which draws. With a
    damaged map an output is less sharp, or too sharp, and explains its input all the same.
    """
    weights = onnx.with_suffix(".safetensors")
    layers = read_header(weights).values()
    largest = max(layers, key=lambda layer: (layer.length, layer.offset))
    data = bytearray(weights.read_bytes())
    place = slice(largest.offset, largest.offset + largest.length)
    values = np.frombuffer(bytes(data[place]), "<u2").copy()
    hit = np.random.default_rng(0).random(values.size) < _ROTTEN
    values[hit] ^= _BIT
    data[place] = values.tobytes()
    (folder / weights.name).write_bytes(data)
    return Path(shutil.copy(onnx, folder / onnx.name))
