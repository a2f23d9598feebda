"""How alike two views are when one is shifted against the other: a cost volume, as in stereo.

What is out of focus lies apart in the views of a dual-pixel sensor, by a parallax that grows with
the blur radius. A net of convolutions alone has to learn to compare, pixel by pixel; this compares
for it, by sums of absolute differences over windows (Scharstein and Szeliski, "A Taxonomy and
Evaluation of Dense Two-Frame Stereo Correspondence Algorithms", IJCV 2002), as real-time stereo
does. Nothing of it is learnt.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOWS = (3, 11)  # positions a side: fine, and for what has little texture
_NOISE = (0.01, 0.005)  # of white: a mean difference over each window that tells nothing


def planes(shifts: int) -> int:
    """How many planes `matching` gives for `shifts` positions each way."""
    return len(WINDOWS) * (2 * shifts + 1)


def reach(shifts: int) -> int:
    """Positions from one of a plane to the farthest that it depends on."""
    return shifts + max(WINDOWS) // 2


def matching(left: Tensor, right: Tensor, shifts: int) -> Tensor:
    """Two views [N, C, H, W] in [0, 1] -> [N, planes(shifts), H, W].

    For each window of `WINDOWS`, from the left view's content lying `shifts` positions to the left
    of the right view's to as many to its right: the mean absolute difference over the window and
    all channels, in parts of its mean over all shifts, less 1. It is about -1 where the views
    match by that shift alone, and all alike where nothing tells the shifts apart.
    """
    width = left.shape[-1]
    wide = F.pad(left, (shifts, shifts, 0, 0), mode="replicate")
    differences = [
        (wide[..., shift : shift + width] - right).abs().mean(1, keepdim=True)
        for shift in range(2 * shifts + 1)
    ]
    costs = torch.cat(differences, dim=1)
    return torch.cat(_relative(costs), dim=1)


def _relative(costs: Tensor) -> list[Tensor]:
    """[N, shifts, H, W] -> as much for each window, in parts of the mean of all shifts, less 1."""
    found = []
    for window, noise in zip(WINDOWS, _NOISE, strict=True):
        mean = _window_mean(costs, window)
        found.append(mean / (mean.mean(1, keepdim=True) + noise) - 1)
    return found


def _window_mean(x: Tensor, window: int) -> Tensor:
    """The mean over a window around each position, or what of it lies in the picture: rows first,
    which costs a fifth of whole squares of 11 positions."""
    half = window // 2
    rows = F.avg_pool2d(x, (1, window), 1, (0, half), count_include_pad=False)
    return F.avg_pool2d(rows, (window, 1), 1, (half, 0), count_include_pad=False)
