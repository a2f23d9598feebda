"""The two faces a net shows to its callers, as modules that can be exported; see `Graph`.

All arithmetic outside the net is float32 in both precisions: above 128, neighbouring float16
numbers are an eighth of a level apart.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.runtime.spec import Color, Graph, Precision
from allfocus.train.models.base import Deblurrer

PREFIX = "net."  # of the net's parameters within a face

_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}


class FloatFace(nn.Module):
    """float32 [N, 3, H, W] RGB -> sharp float32 [N, 3, H, W], defocus float32 [N, 1, H, W].

    Where the net estimates no map, `defocus` is None, and the exported graph has no such output.
    """

    def __init__(self, net: Deblurrer, precision: Precision) -> None:
        super().__init__()
        self.dtype = _DTYPES[precision]
        self.net = copy.deepcopy(net).to(self.dtype)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Deblur; `sharp` is not clipped, `defocus` is at least 0."""
        sharp, defocus = self.net(image.to(self.dtype))
        return sharp.float(), None if defocus is None else F.relu(defocus.float())


class FrameFace(FloatFace):
    """uint8 [N, H, W, 3] -> sharp uint8 [N, H, W, 3] in the same order, defocus float32 [N, H, W].

    The input's cast comes before its transpose and the output's after, because TensorRT takes
    uint8 at a graph's ends only.
    """

    def __init__(self, net: Deblurrer, precision: Precision, color: Color) -> None:
        super().__init__(net, precision)
        self.swapped = color == "bgr"

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Deblur; levels are rounded half to even.

        Rounding is one exact operation on one correctly rounded product, the same everywhere;
        `floor(255 * x + 0.5)` may be contracted into a fused multiply-add and differ at ties.
        """
        planes = image.to(torch.float32).permute(0, 3, 1, 2) / 255
        sharp, defocus = super().forward(self._ordered(planes))
        levels = torch.round(self._ordered(sharp).clamp(0, 1) * 255)
        frame = levels.permute(0, 2, 3, 1).to(torch.uint8)
        return frame, None if defocus is None else defocus.squeeze(1)

    def _ordered(self, planes: Tensor) -> Tensor:
        return planes.flip(1) if self.swapped else planes


def face(net: Deblurrer, graph: Graph) -> FloatFace:
    """The face of `net` that `graph` describes; `net` itself is left as it is."""
    if graph.io == "float":
        return FloatFace(net, graph.precision)
    return FrameFace(net, graph.precision, graph.color)
