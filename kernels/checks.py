"""What the operations take: checked before any device sees it, with errors that say what came.

Strides may be any: what is not dense is made so. Values are not looked at: NaN and infinity pass
through the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from allfocus.kernels.taps import levels_of
from allfocus.runtime.errors import UsageError

_MAX_ELEMENTS = 2**31 - 1


def check_isotropic(image: Tensor, seeds: Tensor, weights: Tensor) -> None:
    """Raise UsageError unless the shapes are those of `ops.isotropic_conv`."""
    given = {"image": image, "seeds": seeds, "weights": weights}
    _check_alike(given)
    levels = levels_of(seeds.shape[1])
    if weights.shape[1] != levels:
        raise UsageError(
            f"weights: {weights.shape[1]} channels; {seeds.shape[1]} seeds belong to {levels} "
            f"levels, so expected {levels}"
        )
    n, _, height, width = image.shape
    for name in ("seeds", "weights"):
        _check_shape(name, given[name], (n, given[name].shape[1], height, width), image)


def check_sft(features: Tensor, gamma: Tensor, gamma_s: Tensor | None, beta: Tensor) -> None:
    """Raise UsageError unless the shapes are those of `ops.sft_modulate`."""
    given = {"features": features, "gamma": gamma, "beta": beta}
    _check_alike(given if gamma_s is None else {**given, "gamma_s": gamma_s})
    n, channels, height, width = features.shape
    for name in ("gamma", "beta"):
        small, full = (n, channels, 1, 1), tuple(features.shape)
        if tuple(given[name].shape) not in (small, full):
            raise UsageError(
                f"{name}: shape {list(given[name].shape)}; expected {list(small)} or {list(full)} "
                "beside these features"
            )
    if gamma_s is not None:
        _check_shape("gamma_s", gamma_s, (n, 1, height, width), features)


def _check_alike(given: Mapping[str, Tensor]) -> None:
    """Four dimensions, none empty, one dtype, one device, sizes that 32-bit indices reach."""
    first_name, first = next(iter(given.items()))
    if not first.is_floating_point():
        raise UsageError(f"{first_name}: dtype {first.dtype}; expected a floating-point one")
    for name, tensor in given.items():
        if tensor.dim() != 4:
            raise UsageError(f"{name}: shape {list(tensor.shape)}; expected 4 dimensions, NCHW")
        if tensor.numel() == 0:
            raise UsageError(f"{name}: empty, shape {list(tensor.shape)}; expected at least 1 each")
        if tensor.dtype != first.dtype:
            raise UsageError(
                f"{name} is {tensor.dtype}, {first_name} is {first.dtype}; convert them to one "
                "dtype"
            )
        if tensor.device != first.device:
            raise UsageError(
                f"{name} is on {tensor.device}, {first_name} is on {first.device}; move them to "
                "one device"
            )
        if tensor.numel() > _MAX_ELEMENTS:
            raise UsageError(
                f"{name}: {tensor.numel()} elements; at most {_MAX_ELEMENTS}: split the batch, or "
                "work on tiles"
            )


def _check_shape(name: str, tensor: Tensor, expected: tuple[int, ...], beside: Tensor) -> None:
    if tuple(tensor.shape) != expected:
        raise UsageError(
            f"{name}: shape {list(tensor.shape)}; expected {list(expected)} beside a tensor of "
            f"{list(beside.shape)}"
        )
