"""Faces whose samples say more than the net's way there and back would keep: 16 bits, and luma with
chroma at half the resolution.

So what the net *changes* is added to the samples that came in, which stay as they are to the bit
where that is nothing, in half precision too. TensorRT has no tensors of 16-bit whole numbers: a
graph takes and gives their bytes, low ones first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from allfocus.export.plain_faces import Before, FrameFace
from allfocus.runtime.spec import Graph
from allfocus.runtime.ycbcr import P010_STEP, black, from_rgb
from allfocus.train.models.base import Net

_WHITE = 65535
_BYTE = 256


class Frame16Face(FrameFace):
    """Pictures of 16 bits as bytes, uint8 [N, H, W, 6]."""

    def picture(self, samples: Tensor) -> Tensor:
        """See FrameFace."""
        return self._ordered(self._whole(samples).permute(0, 3, 1, 2) / _WHITE)

    def levels(self, picture: Tensor, before: Before) -> Tensor:
        """See FrameFace."""
        change = self._ordered(_change(picture, before)).permute(0, 2, 3, 1)
        levels = torch.round(self._whole(before.samples) + change * _WHITE).clamp(0, _WHITE)
        return _split(levels).flatten(3).to(torch.uint8)

    def _whole(self, samples: Tensor) -> Tensor:
        """The samples [N, H, W, 3] as float32."""
        return _joined(torch.unflatten(samples.to(torch.float32), 3, (3, 2)))


class YuvFace(FrameFace):
    """Luma and chroma, uint8 [N, 3H/2, W] (nv12) or bytes of 16 bits [N, 3H/2, W, 2] (p010).

    Chroma is repeated for its four pixels, and averaged on its way back. Repeating needs no
    neighbours, so that tiles see what the whole frame does, and is what OpenCV does; what it lacks
    in smoothness cancels, as only the change goes back.
    """

    def __init__(self, net: Net, graph: Graph, kept: Sequence[str] = ()) -> None:
        super().__init__(net, graph, kept)
        self.deep = graph.io == "p010"
        bits = 10 if self.deep else 8
        self.top = (1 << bits) - 1
        rows = from_rgb(graph.matrix, graph.range, bits)
        self.rows = rows.tolist()
        self.back = np.linalg.inv(rows).tolist()
        self.zero = black(graph.range, bits).tolist()

    def picture(self, samples: Tensor) -> Tensor:
        """See FrameFace: RGB, clipped."""
        parts = torch.unflatten(self._codes(samples), 1, (3, -1))  # [N, 3, H/2, W]
        luma = parts[:, :2].flatten(1, 2).unsqueeze(1)
        chroma = torch.unflatten(parts[:, 2], 2, (-1, 2)).permute(0, 3, 1, 2)
        blue, red = F.interpolate(chroma, scale_factor=2.0, mode="nearest").chunk(2, dim=1)
        offsets = (part - z for part, z in zip((luma, blue, red), self.zero, strict=True))
        return _mixed(self.back, *offsets).clamp(0, 1)

    def levels(self, picture: Tensor, before: Before) -> Tensor:
        """See FrameFace. Of p010's samples the six low bits come out as they came."""
        luma, blue, red = _mixed(self.rows, *_change(picture, before).chunk(3, dim=1)).chunk(3, 1)
        chroma = F.avg_pool2d(torch.cat((blue, red), dim=1), 2)
        halves = torch.unflatten(luma.squeeze(1), 1, (2, -1))  # [N, 2, H/2, W]
        below = chroma.permute(0, 2, 3, 1).flatten(2).unsqueeze(1)  # [N, 1, H/2, W]
        change = torch.round(torch.cat((halves, below), dim=1).flatten(1, 2))
        came = self._codes(before.samples)
        if not self.deep:
            return (came + change).clamp(0, self.top).to(torch.uint8)
        codes = torch.floor(came)
        levels = (codes + change).clamp(0, self.top) + (came - codes)
        return _split(levels * P010_STEP).to(torch.uint8)

    def _codes(self, samples: Tensor) -> Tensor:
        """The samples [N, 3H/2, W] as levels of 8 or 10 bits; six more bits are a fraction."""
        values = samples.to(torch.float32)
        return _joined(values) / P010_STEP if self.deep else values


def _change(picture: Tensor, before: Before) -> Tensor:
    """What the net changed, float32 [N, 3, H, W]: exactly 0 where it gave back what it got."""
    return picture.clamp(0, 1) - before.seen.float().clamp(0, 1)


def _mixed(rows: Sequence[Sequence[float]], *planes: Tensor) -> Tensor:
    """Three planes [N, 1, H, W] times a matrix, as one [N, 3, H, W].

    Not a 1x1 convolution: TensorRT may compute those in TF32, which has a third of the digits.
    """
    a, b, c = planes
    return torch.cat([x * a + y * b + z * c for x, y, z in rows], dim=1)


def _joined(pairs: Tensor) -> Tensor:
    """Pairs of bytes [..., 2], low ones first, as whole numbers [...]; all in float32."""
    low, high = pairs.unbind(-1)
    return low + high * _BYTE


def _split(levels: Tensor) -> Tensor:
    """The inverse: exact, since float32 holds whole numbers of 24 bits."""
    high = torch.floor(levels / _BYTE)
    return torch.stack((levels - high * _BYTE, high), dim=-1)
