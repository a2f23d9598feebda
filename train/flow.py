"""Optical flow between two pictures, and what JDRL does with it (Li et al. 2023, eq. 2 to 5).

A flow [N, 2, H, W] holds dx, dy in pixels. That from a source to a target tells for each pixel of
the target where in the source it comes from: `warp(source, flow)` looks like the target.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from allfocus.train import dense_flow, losses

TOLERANCE = 0.35  # lambda of eq. 4

Flow = Callable[[Tensor, Tensor], Tensor]  # source, target [N, 3, H, W] -> flow [N, 2, H, W]


def dis_flow(source: Tensor, target: Tensor) -> Tensor:
    """OpenCV's dense inverse search (see `dense_flow`); no gradient flows through it.

    The paper has a pretrained PWC-Net, of which any `Flow` can take the place.
    """
    pairs = zip(_grey(target), _grey(source), strict=True)
    flows = np.stack([dense_flow.search(to, start) for to, start in pairs])
    return torch.from_numpy(flows).permute(0, 3, 1, 2).contiguous().to(source.device)


def _grey(pictures: Tensor) -> NDArray[np.uint8]:
    """RGB [N, 3, H, W] in [0, 1] -> [N, H, W], 0 to 255."""
    weights = pictures.new_tensor((0.299, 0.587, 0.114), dtype=torch.float32).view(1, 3, 1, 1)
    luma = (pictures.detach().float() * weights).sum(1).clamp(0, 1)
    grey: NDArray[np.uint8] = (luma * 255).round().to(torch.uint8).cpu().numpy()
    return grey


def warp(source: Tensor, flow: Tensor) -> Tensor:
    """Eq. 3: the source [N, C, H, W] at the places that the flow tells, bilinear, in float32.

    Beyond its border a picture goes on as it ends there.
    """
    height, width = source.shape[2:]
    y = torch.arange(height, device=flow.device).view(-1, 1)
    x = torch.arange(width, device=flow.device)
    across = (x + flow[:, 0]) * (2 / max(width - 1, 1)) - 1  # grid_sample's -1 to 1
    down = (y + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    places = torch.stack((across, down), dim=-1)
    return F.grid_sample(source.float(), places, padding_mode="border", align_corners=True)


def calibration_mask(flow: Tensor) -> Tensor:
    """Eq. 4: 1 where the flow is about as long as its mean over the picture, else 0; [N, 1, H, W].

    Pairs are displaced nearly alike all over: another length is a flow that went wrong.
    """
    length = flow.square().sum(1, keepdim=True).sqrt()
    mean = length.mean(dim=(2, 3), keepdim=True)
    return ((length - mean).abs() <= TOLERANCE * mean).to(flow.dtype)


def deformed_loss(source: Tensor, target: Tensor, flow: Tensor, *, mask: bool) -> Tensor:
    """One half of eq. 5: Charbonnier's loss of the warped source and the target, where the flow is
    trusted, or everywhere without `mask`; a scalar.
    """
    trusted = calibration_mask(flow) if mask else None
    return losses.charbonnier(warp(source, flow), target, trusted)
