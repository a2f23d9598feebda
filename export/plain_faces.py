"""The faces `float` and `frame` of a net, as modules that can be exported; see `Graph`.

All arithmetic outside the net is float32 in both precisions: above 128, neighbouring float16
numbers are an eighth of a level apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.export.lower import lowered
from allfocus.runtime.signature import KINDS
from allfocus.runtime.spec import Graph, Precision
from allfocus.train.models.base import Net

_DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


class Before(NamedTuple):
    """The first picture that went in."""

    samples: Tensor  # in the face's layout
    seen: Tensor  # [N, 3, H, W] as the net got it, in its own precision


class FloatFace(nn.Module):
    """A phase of a net, its inputs and outputs as `Graph` says: pictures float32 [N, 3, H, W] RGB,
    planes float32 [N, 1, H, W], vectors float32 [N, K, 1, 1].

    Pictures that come out are not clipped. Planes are at least 0, but from phase `estimate` as the
    net makes them: `restore` must get what it gets within the whole.
    """

    def __init__(self, net: Net, graph: Graph, kept: Sequence[str] = ()) -> None:
        super().__init__()
        self.dtype = _DTYPES[graph.precision]
        self.phase = graph.phase
        self.signature = graph.signature
        self.net = lowered(net, graph.precision, kept)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the phase."""
        names = self.signature.inputs
        given = [self.enter(n, t).to(self.dtype) for n, t in zip(names, inputs, strict=True)]
        first = next(i for i, name in enumerate(names) if KINDS[name] == "picture")
        before = Before(inputs[first], given[first])
        outputs = zip(self.signature.outputs, self.net.run(self.phase, *given), strict=True)
        return tuple(self.leave(name, tensor.float(), before) for name, tensor in outputs)

    def enter(self, name: str, tensor: Tensor) -> Tensor:
        """The input `name` in the net's layout."""
        del name
        return tensor

    def leave(self, name: str, tensor: Tensor, before: Before) -> Tensor:
        """The output `name` in the face's layout, from float32 in the net's."""
        del before
        cut = KINDS[name] == "plane" and self.phase != "estimate"
        return F.relu(tensor) if cut else tensor


class FrameFace(FloatFace):
    """The same with pictures uint8 [N, H, W, 3] and planes float32 [N, H, W].

    The cast of a picture comes before its transpose at the input, and after it at the output,
    because TensorRT takes uint8 at a graph's ends only.
    """

    def __init__(self, net: Net, graph: Graph, kept: Sequence[str] = ()) -> None:
        super().__init__(net, graph, kept)
        self.swapped = graph.color == "bgr"

    def enter(self, name: str, tensor: Tensor) -> Tensor:
        """See FloatFace."""
        if KINDS[name] == "picture":
            return self.picture(tensor)
        return tensor.unsqueeze(1) if KINDS[name] == "plane" else tensor

    def picture(self, samples: Tensor) -> Tensor:
        """A picture in the face's layout as float32 [N, 3, H, W]."""
        return self._ordered(samples.to(torch.float32).permute(0, 3, 1, 2) / 255)

    def leave(self, name: str, tensor: Tensor, before: Before) -> Tensor:
        """See FloatFace."""
        if KINDS[name] == "picture":
            return self.levels(tensor, before)
        planes = super().leave(name, tensor, before)
        return planes.squeeze(1) if KINDS[name] == "plane" else planes

    def levels(self, picture: Tensor, before: Before) -> Tensor:
        """A picture [N, 3, H, W] in the face's layout; levels are rounded half to even.

        Rounding is one exact operation on one correctly rounded product, the same everywhere;
        `floor(255 * x + 0.5)` may be contracted into a fused multiply-add and differ at ties.
        """
        del before
        levels = torch.round(self._ordered(picture).clamp(0, 1) * 255)
        return levels.permute(0, 2, 3, 1).to(torch.uint8)

    def _ordered(self, planes: Tensor) -> Tensor:
        return planes.flip(1) if self.swapped else planes
