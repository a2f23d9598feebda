"""What the two operations must at least move and compute: the roofline, see README.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from allfocus.benchmarks.kernel_schema import Direction, Op, Rates, Work
from allfocus.kernels.taps import taps

if TYPE_CHECKING:
    from torch import Tensor


def work(op: Op, direction: Direction, inputs: Sequence[Tensor], out: Tensor, rates: Rates) -> Work:
    """The least work for these tensors, and the time it takes at these rates."""
    moved = sum(t.nbytes for t in (*inputs, out))  # backward: out stands for its gradient
    if direction == "backward":
        moved += sum(t.nbytes for t in inputs)  # and each input has a gradient
    per_pixel = _isotropic if op == "isotropic_conv" else _sft
    operations = per_pixel(inputs, direction) * out.shape[0] * out.shape[2] * out.shape[3]
    times = {
        "bandwidth": moved / rates.bytes_per_second,
        "arithmetic": operations / rates.fma_per_second,
    }
    bandwidth = times["bandwidth"] >= times["arithmetic"]
    return Work(
        bytes=moved,
        operations=operations,
        limit_ms=1e3 * max(times.values()),
        bound="bandwidth" if bandwidth else "arithmetic",
    )


def _isotropic(inputs: Sequence[Tensor], direction: Direction) -> int:
    channels, levels = inputs[0].shape[1], inputs[2].shape[1]
    if direction == "forward":
        return kernel_operations(levels) + convolution_operations(levels, channels)
    # Once to the image, once to the kernels; then through the mixing and the softmax to seeds and
    # weights: dot product, difference and product, two seeds, for each ring.
    rings = sum(len(taps(level)) for level in range(2, levels + 1))
    return kernel_operations(levels) + 2 * convolution_operations(levels, channels) + 5 * rings


def kernel_operations(levels: int) -> int:
    """Instructions a pixel to make all levels' kernels and add them up, ring by ring."""
    total = 0
    for level in range(2, levels + 1):
        rings = taps(level)
        inside = [ring for ring in rings if ring.inner is not None]
        total += 2 * level  # seeds: scaled, and the largest of them
        total += sum(2 for ring in inside if ring.fraction > 0)  # interpolation
        total += 3 * len(inside)  # minus the largest, exponential, sum
        total += 3  # exponential of the elements outside, their sum, weight over sum
        total += len(rings)  # times that, added to the other levels' kernels
    return total


def convolution_operations(levels: int, channels: int) -> int:
    """Instructions a pixel to apply one kernel of (2m-1)^2 elements to each channel."""
    return (2 * levels - 1) ** 2 * channels


def _sft(inputs: Sequence[Tensor], direction: Direction) -> int:
    """Instructions a pixel: gamma_c times gamma_s, and a multiply-add, for each channel.

    Backward: two products for features, three for each gamma with its sum; beta's is a copy.
    """
    return inputs[0].shape[1] * (2 if direction == "forward" else 8)
