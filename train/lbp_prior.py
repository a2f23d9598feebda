"""A blur prior that needs no training: how much fine texture stands around each pixel.

B(I) of APL (Zhao et al., ECCV 2022, eq. 7), which refers to Yi and Eramian, "LBP-based segmentation
of defocus blur", IEEE TIP 2016, for its "local contrast knowledge". A local binary pattern tells
which of 8 samples on a circle of radius 1 are brighter than its middle by a threshold. A blurred
surface gives none, or up to 5 side by side where its brightness slopes. Blur takes away the
patterns with 6 to 8 side by side (small dark spots, ends of lines) and those that change more than
twice around the circle, which count as one kind, the 9th. The measure is the share of these kinds,
6 to 9, in a window; here the mean of the shares in windows of three sizes.

Threshold and windows are those known of Yi and Eramian's method, whose text was not at hand. What
they do next, alpha matting from certain pixels and inference across scales, is left out: APL asks
for a hint, not for a segmentation. In its place stands a ramp between two shares, LOW and HIGH.
Measured on the first 30 pictures of BSDS500 (train): a quarter of the pixels have shares over 0.23,
half over 0.09; after a Gaussian blur of σ = 1 pixel, 10 % have over 0.05; of σ = 2, under 10 % have
any. A flat surface in focus counts as blurred: this is a prior, not the truth.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.runtime.errors import UsageError

THRESHOLD = 0.016  # of a difference, where white is 1: 4 of 255 levels
WINDOWS = (11, 15, 21)  # sides in pixels
LOW, HIGH = 0.02, 0.2  # shares up to which a pixel is blurred, and from which it is in focus

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@torch.no_grad()
def focus_prior(image: Tensor) -> Tensor:
    """RGB [N, 3, H, W] in [0, 1] -> [N, 1, H, W] in [0, 1], float32; 1 = IN FOCUS.

    Deterministic, and without a gradient. Raises UsageError for another shape.
    """
    if image.dim() != 4 or image.shape[1] != 3 or image.numel() == 0:
        raise UsageError(
            f"focus_prior: expected pictures [N, 3, H, W], got {list(image.shape)}; give a single "
            "one as [1, 3, H, W]"
        )
    with torch.autocast(image.device.type, enabled=False):  # the threshold is finer than bfloat16
        textured = _textured(image.float())
        share = torch.stack([_mean_around(textured, side) for side in WINDOWS]).mean(0)
    return ((share - LOW) / (HIGH - LOW)).clamp(0, 1)


def _textured(image: Tensor) -> Tensor:
    """[N, 3, H, W] -> [N, 1, H, W], 1 where the pattern is of the kinds 6 to 9, else 0."""
    luma = (image * image.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    differences = F.conv2d(F.pad(luma, (1, 1, 1, 1), mode="replicate"), _circle().to(image.device))
    brighter = (differences >= THRESHOLD).float()  # [N, 8, H, W], in order around the circle
    changes = (brighter - brighter.roll(1, dims=1)).abs().sum(1, keepdim=True)
    return ((changes > 2) | (brighter.sum(1, keepdim=True) >= 6)).float()


def _circle() -> Tensor:
    """Filters [8, 1, 3, 3]: a sample on the unit circle, bilinear between pixels, minus the middle.

    Samples are 45 degrees apart, in order.
    """
    filters = torch.zeros(8, 1, 3, 3)
    for index in range(8):
        y, x = math.sin(index * math.pi / 4), math.cos(index * math.pi / 4)
        for row in range(3):
            for column in range(3):
                filters[index, 0, row, column] = _near(y, row - 1) * _near(x, column - 1)
        filters[index, 0, 1, 1] -= 1
    return filters


def _near(place: float, pixel: int) -> float:
    return max(0.0, 1 - abs(place - pixel))


def _mean_around(plane: Tensor, side: int) -> Tensor:
    """The mean in a window of `side` pixels around each pixel, of what lies within the picture."""
    rows = F.avg_pool2d(plane, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)
