"""Gradients of `sft_modulate` on a CPU, some rows at a time.

The product of features and modulation, and what comes of it, are of the features' size in float32.
Whole, each goes through memory several times; of a few rows they stay in the caches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_PIECE = 1 << 17  # elements of the features for each thread


def sft_modulate_backward(
    grad: Tensor, inputs: Sequence[Tensor | None], slope: float, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The wanted ones of the gradients to `inputs`: features, gamma, gamma_s and beta.

    Shapes, and float32 for half types, as in `reference.sft_modulate`. What has one value for all
    pixels is summed up in float32 too.
    """
    features = inputs[0]
    assert features is not None
    wide = features.dtype if features.dtype == torch.float64 else torch.float32
    found = [
        _room(given, wide) if want and given is not None else None
        for given, want in zip(inputs, wanted, strict=True)
    ]
    count, channels, height, width = features.shape
    step = max(1, _PIECE * torch.get_num_threads() // max(1, count * channels * width))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        pieces = [None if given is None else _cut(given, rows).to(wide) for given in inputs]
        parts = _gradients(_cut(grad, rows).to(wide), pieces, slope, wanted)
        for whole, part in zip(found, parts, strict=True):
            if whole is not None and part is not None:
                _keep(whole, rows, part)
    return [
        None if whole is None or given is None else whole.to(given.dtype)
        for whole, given in zip(found, inputs, strict=True)
    ]


def _gradients(
    grad: Tensor, inputs: Sequence[Tensor | None], slope: float, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Of act(features * gamma * gamma_s + beta) over some rows, in the type of all its inputs."""
    features, gamma, gamma_s, beta = inputs
    assert features is not None
    assert gamma is not None
    assert beta is not None
    scale = gamma if gamma_s is None else gamma * gamma_s
    if slope != 1:
        off = features * scale + beta <= 0  # not where that is NaN; and 0 x infinity is none
        grad = grad.masked_fill(off, 0) if slope == 0 else torch.where(off, slope * grad, grad)
    by_scale = grad * features if wanted[1] or wanted[2] else None
    parts = [grad * scale if wanted[0] else None, None, None, grad if wanted[3] else None]
    if by_scale is not None and wanted[1]:
        parts[1] = by_scale if gamma_s is None else by_scale * gamma_s
    if by_scale is not None and wanted[2]:
        parts[2] = by_scale * gamma
    return [
        None if part is None or given is None else part.sum_to_size(given.shape)
        for part, given in zip(parts, inputs, strict=True)
    ]


def _room(like: Tensor, wide: torch.dtype) -> Tensor:
    """Zeros to add up in where all rows share their values, else space for each row's."""
    return torch.zeros_like(like, dtype=wide) if like.shape[2] == 1 else torch.empty_like(like)


def _keep(whole: Tensor, rows: slice, part: Tensor) -> None:
    if whole.shape[2] == 1:
        whole.add_(part)
    else:
        whole[:, :, rows] = part


def _cut(given: Tensor, rows: slice) -> Tensor:
    return given if given.shape[2] == 1 else given[:, :, rows]
