"""Learnable blur kernels, one for each radius: Zhai et al., "Learnable Blur Kernel for Single-Image
Defocus Deblurring in the Wild", AAAI 2023, equations 2 to 5.

They blur an all-in-focus picture by a map of radii. What comes out is compared with the blurry
picture; that trains the map's net without true maps, and in turn the kernels. A kernel starts as a
Butterworth high-pass filter on a disc, smoothed (eq. 3): a lens's blur is brighter at its edge. The
paper gives none of the filter's figures; those of Config are in proportion to the radius, so that
all kernels start with one shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from allfocus.train.psf import butterworth

SMOOTHNESS = 1e-5  # λ of eq. 5
_FLOOR = 1e-6  # of a kernel's largest value: what starts at 0 can grow all the same

_Grid = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Config:
    """The radii, and eq. 3's filter at the start."""

    max_radius: int = 25  # pixels
    order: int = 3  # n
    cutoff: float = 0.4  # D0, in radii: where the filter is 1/2
    smoothing: float = 0.1  # κ, in radii: standard deviation of the Gaussian

    def __post_init__(self) -> None:
        for name in ("max_radius", "order"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("cutoff", "smoothing"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: expected between 0 and 1, got {getattr(self, name)}")


def initial_kernel(radius: int, config: Config) -> _Grid:
    """Eq. 3 for a radius of at least 1 pixel: [K, K], K odd, its sum 1."""
    return butterworth(radius, cutoff=config.cutoff, order=config.order, smoothing=config.smoothing)


class BlurKernels(nn.Module):
    """One kernel for each radius from 1 to `max_radius` pixels; that of 0 leaves a pixel alone.

    Kernels are a softmax of their parameters: whatever those are, no value is negative and the sum
    is 1. Float32.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.logits = nn.ParameterList(
            nn.Parameter(_logits(initial_kernel(radius, config)))
            for radius in range(1, config.max_radius + 1)
        )

    def kernels(self) -> Iterator[Tensor]:
        """Those of the radii 1, 2, ...: [K, K] each, K odd."""
        for logits in self.logits:
            yield logits.flatten().softmax(0).view_as(logits)

    def forward(self, all_in_focus: Tensor, radius: Tensor) -> Tensor:
        """Blur [N, 3, H, W] by radii [N, 1, H, W] in pixels -> [N, 3, H, W] (eq. 4).

        The map tells the radius at a pixel of the result, as it is seen in a blurry picture. The
        plane is divided by it: each pixel comes from the picture blurred with the kernel of its
        radius. Between two radii, both are mixed, so that a gradient reaches the map; radii beyond
        the largest count as that one. Beyond its border the picture goes on as it ends there.
        """
        if radius.shape != (all_in_focus.shape[0], 1, *all_in_focus.shape[2:]):
            raise ValueError(
                f"radius: expected one plane for each picture of {list(all_in_focus.shape)}, "
                f"got {list(radius.shape)}"
            )
        radius = radius.clamp(0, self.config.max_radius)
        total = _share(radius, 0) * all_in_focus
        for index, blurred in enumerate(self._blurred(all_in_focus)):
            total = total + _share(radius, index + 1) * blurred
        return total

    def _blurred(self, picture: Tensor) -> Iterator[Tensor]:
        """The picture blurred with each kernel, [N, 3, H, W]; by Fourier transforms.

        Directly, the 25 kernels would take 34,000 multiplications a sample.
        """
        margin = self.logits[-1].shape[0] // 2
        padded = F.pad(picture, (margin,) * 4, mode="replicate")
        height, width = padded.shape[2:]
        spectrum = torch.fft.rfft2(padded)
        for kernel in self.kernels():
            reach = kernel.shape[0] // 2
            centred = F.pad(kernel, (0, width - kernel.shape[1], 0, height - kernel.shape[0]))
            turned = torch.fft.rfft2(centred.roll((-reach, -reach), (0, 1)))
            whole = torch.fft.irfft2(spectrum * turned, s=(height, width))
            yield whole[:, :, margin : height - margin, margin : width - margin]


def _share(radius: Tensor, of: int) -> Tensor:
    """How much of the kernel of radius `of` each pixel gets: 1 at that radius, 0 a pixel off."""
    return (1 - (radius - of).abs()).clamp(min=0)


def _logits(kernel: _Grid) -> Tensor:
    floor = _FLOOR * kernel.max()
    return torch.from_numpy(np.log(np.maximum(kernel, floor))).to(torch.float32)


def geometric_loss(reblurred: Tensor, blurry: Tensor) -> Tensor:
    """Eq. 2: mean absolute difference of two pictures [N, 3, H, W]; a scalar."""
    return (reblurred - blurry).abs().mean()


def roughness(radius: Tensor) -> Tensor:
    """‖∇M‖ of eq. 5: the map's [N, 1, H, W] mean absolute change to the next pixel, down and right.

    The paper does not name the norm.
    """
    down, right = radius.diff(dim=2).abs().mean(), radius.diff(dim=3).abs().mean()
    return down + right


def map_objective(reblurred: Tensor, blurry: Tensor, radius: Tensor) -> dict[str, Tensor]:
    """Eq. 5: the parts of the loss of the map's net, weighted, each a scalar; `radius`
    [N, 1, H, W] in pixels.
    """
    return {
        "geometric": geometric_loss(reblurred, blurry),
        "roughness": SMOOTHNESS * roughness(radius),
    }
