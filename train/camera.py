"""What a camera makes of light: shot and read noise, the sRGB curve, 8 bits, at times JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


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


def clip(values: NDArray[Any]) -> Image:
    """To [0, 1], as float32."""
    return np.asarray(np.clip(values, 0, 1), np.float32)


@dataclass(frozen=True)
class Noise:
    """A sensor's: the variance of a signal x in [0, 1] is shot * x + read²."""

    shot: float
    read: float


def random_noise(rng: np.random.Generator) -> Noise:
    """From that of a bright day to that of a high ISO."""
    shot, read = 10 ** rng.uniform(-5.0, -3.2), 10 ** rng.uniform(-3.5, -2.3)
    return Noise(float(shot), float(read))


def take(rng: np.random.Generator, linear: Image, noise: Noise, jpeg_share: float) -> Image:
    """Linear light [H, W, 3] -> the sRGB picture, as float32 in [0, 1], that a camera writes.

    `jpeg_share`: how often the file is a JPEG, of quality 75 to 98.
    """
    spread = np.sqrt(np.maximum(linear, 0) * noise.shot + noise.read**2)
    noisy = linear + spread * rng.standard_normal(linear.shape, dtype=np.float32)
    code = np.rint(255 * to_srgb(clip(noisy))).astype(np.uint8)
    if rng.random() < jpeg_share:
        code = _through_jpeg(code, int(rng.integers(75, 99)))
    return code.astype(np.float32) / np.float32(255)


def _through_jpeg(code: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    coded = cv2.imencode(".jpg", code[..., ::-1], settings)[1]  # OpenCV's order is BGR
    decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1].astype(np.uint8)
