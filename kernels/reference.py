"""The two operations in plain PyTorch: what the CUDA kernels must equal, and the path on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.kernels.taps import Tap, seed_slice, taps


def isotropic_conv(image: Tensor, seeds: Tensor, weights: Tensor) -> Tensor:
    """Blur each pixel with its own isotropic kernels and mix the levels (JDRL, eq. 7-9).

    image [N, C, H, W]; seeds [N, 2+3+...+m, H, W], of which the absolute value is taken; weights
    [N, m, H, W] of levels 1 (the image itself) to m. Returns [N, C, H, W]; zeros lie outside.

    All kernels of a pixel are added up before the image is touched, ring by ring: neither a kernel
    nor an unfolded image is ever held. Half types are computed in float32.
    """
    wide = image.dtype if image.dtype == torch.float64 else torch.float32
    rings = _mixed_kernel(seeds.to(wide), weights.to(wide))
    margin = int(weights.shape[1]) - 1
    padded = F.pad(image.to(wide), (margin,) * 4)
    size = (image.shape[2], image.shape[3])
    blurred = sum(
        (k * _ring_sum(padded, tap, margin, size) for tap, k in rings[1:]),
        start=rings[0][1] * image.to(wide),
    )
    return blurred.to(image.dtype)


def sft_modulate(
    features: Tensor, gamma: Tensor, gamma_s: Tensor | None, beta: Tensor, slope: float = 1.0
) -> Tensor:
    """Spatial feature transform `act(features * gamma * gamma_s + beta)` (Ye et al.; APL's UFAT).

    features [N, C, H, W]; gamma [N, C, 1, 1] or [N, C, H, W]; gamma_s [N, 1, H, W] or None; beta
    [N, C, H, W] or [N, C, 1, 1]. act multiplies what is negative by `slope`: 1 leaves it, 0 is
    ReLU. Half types are computed in float32.
    """
    wide = features.dtype if features.dtype == torch.float64 else torch.float32
    scaled = features.to(wide) * gamma.to(wide)
    if gamma_s is not None:
        scaled = scaled * gamma_s.to(wide)
    shifted = scaled + beta.to(wide)
    if slope != 1:
        shifted = F.relu(shifted) if slope == 0 else F.leaky_relu(shifted, slope)
    return shifted.to(features.dtype)


def _mixed_kernel(seeds: Tensor, weights: Tensor) -> list[tuple[Tap, Tensor]]:
    """The sum of all levels' kernels, each times its weight: (ring, value [N, 1, H, W])."""
    levels = int(weights.shape[1])  # the graph is another for each m, also while tracing
    mixed = [weights[:, :1]]  # level 1: the centre alone
    for level in range(2, levels + 1):
        share = weights[:, level - 1 : level]
        kernel = [share * value for value in _kernel(seeds[:, seed_slice(level)], level)]
        mixed = [a + b for a, b in zip(mixed, kernel, strict=False)] + kernel[len(mixed) :]
    return list(zip(taps(levels), mixed, strict=True))


def _kernel(seeds: Tensor, level: int) -> list[Tensor]:
    """Softmax over the (2i-1)^2 elements of level i: a value [N, 1, H, W] for each ring."""
    radial = seeds.abs()
    highest = radial.amax(1, keepdim=True).detach()  # each seed is an element, and none exceeds it
    raised = [torch.exp(_interpolate(radial, tap) - highest) for tap in taps(level)]
    total = sum(
        (len(tap.offsets) * value for tap, value in zip(taps(level), raised, strict=True)),
        start=torch.zeros_like(highest),
    )
    return [value / total for value in raised]


def _interpolate(radial: Tensor, tap: Tap) -> Tensor:
    if tap.inner is None:
        return torch.zeros_like(radial[:, :1])
    inner = radial[:, tap.inner : tap.inner + 1]
    if tap.fraction == 0:
        return inner
    return torch.lerp(inner, radial[:, tap.inner + 1 : tap.inner + 2], tap.fraction)


def _ring_sum(padded: Tensor, tap: Tap, margin: int, size: tuple[int, int]) -> Tensor:
    """Sum of the image [N, C, H, W], padded by `margin`, over the elements of a ring."""
    height, width = size
    shifted = (
        padded[:, :, margin + y : margin + y + height, margin + x : margin + x + width]
        for y, x in tap.offsets
    )
    return sum(shifted, start=torch.zeros_like(padded[:, :, :height, :width]))
