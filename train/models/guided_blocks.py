"""The blocks of DefocusGAN: Zhai et al., "Learnable Blur Kernel for Single-Image Defocus Deblurring
in the Wild", AAAI 2023. Its generator and its map net are made of them.

A defocus-guided block (DGB) has four U-Net-like branches of eight convolutional layers, for four
ranges of the blur radius. The paper says no more of a branch than that "we replace the
convolutional layer with" residual channel attention blocks (RCAB), of which the branches have 0, 1,
2 and 3. Here a branch is two layers, one that halves the size, three at the bottom, one that joins
the doubled features with the skip, and a last one; the RCABs stand for the last layers at the
bottom. The paper says neither how the outputs are weighted without masks: here they are added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.train.models.didanet import conv

MAX_RADIUS = 25.0  # pixels: the paper's upper limit of the circle of confusion
BRANCHES = 4
_BOTTOM = 3  # layers at the bottom of a branch


class Means:
    """The means of features over the whole picture, one after the other, in the order of the RCABs.

    They are either given, as one vector [N, context, 1, 1], or computed and kept.
    """

    def __init__(self, given: Tensor | None = None) -> None:
        self._given = given
        self._next = 0
        self._kept: list[Tensor] = []

    def of(self, features: Tensor) -> Tensor:
        """The next mean, [N, C, 1, 1]; `features` [N, C, H, W] are looked at where none is given.

        Rows first: in float16 the sum over a whole picture would be beyond its range.
        """
        if self._given is None:
            self._kept.append(features.mean(3, keepdim=True).mean(2, keepdim=True))
            return self._kept[-1]
        first, self._next = self._next, self._next + features.shape[1]
        return self._given[:, first : self._next]

    def joined(self) -> Tensor:
        """Those that were computed, as one vector [N, context, 1, 1]."""
        return torch.cat(self._kept, dim=1)


class Rcab(nn.Module):
    """Residual channel attention (Zhang et al. 2018): `x + gate * conv(relu(conv(x)))`.

    The gate of each channel, from 0 to 1, depends on the branch's mean over the picture. The second
    convolution starts at zero: a new block is the identity.
    """

    def __init__(self, features: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, features // reduction)
        self.conv1 = conv(features, features)
        self.conv2 = conv(features, features)
        self.gate = nn.Sequential(
            nn.Conv2d(features, hidden, 1),
            nn.LeakyReLU(0.1),  # a picture gives one sample only: a ReLU would stay dead for long
            nn.Conv2d(hidden, features, 1),
            nn.Sigmoid(),
        )
        start(self.conv1)
        start(self.conv2, 0.0)

    def forward(self, x: Tensor, means: Means) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        branch = self.conv2(F.relu(self.conv1(x)))
        out: Tensor = x + self.gate(means.of(branch)) * branch
        return out


class Branch(nn.Module):
    """Eight layers, of which the last `attentive` of the three at the bottom are RCABs."""

    def __init__(self, inputs: int, features: int, deep: int, attentive: int, reduction: int):
        super().__init__()
        self.enter = nn.Sequential(
            conv(inputs, features), nn.ReLU(), conv(features, features), nn.ReLU()
        )
        self.down = conv(features, deep, 2)
        self.plain = nn.ModuleList(conv(deep, deep) for _ in range(_BOTTOM - attentive))
        self.attentive = nn.ModuleList(Rcab(deep, reduction) for _ in range(attentive))
        self.up = conv(deep + features, features)
        self.leave = conv(features, features)
        for layer in (self.enter[0], self.enter[2], self.down, *self.plain, self.up):
            start(layer)
        start(self.leave, (2 * BRANCHES) ** -0.5)  # no ReLU follows, and four branches are added

    def forward(self, x: Tensor, means: Means) -> Tensor:
        """[N, inputs, H, W] -> [N, features, H, W]; H and W even."""
        skip, deep = self.descend(x, means)
        doubled = F.interpolate(deep, scale_factor=2.0, mode="nearest")
        out: Tensor = self.leave(F.relu(self.up(torch.cat((doubled, skip), dim=1))))
        return out

    def descend(self, x: Tensor, means: Means) -> tuple[Tensor, Tensor]:
        """What goes over the bottom, [N, features, H, W], and through it, [N, deep, H/2, W/2]."""
        skip: Tensor = self.enter(x)
        deep = F.relu(self.down(skip))
        for layer in self.plain:
            deep = F.relu(layer(deep))
        for block in self.attentive:
            deep = block(deep, means)
        return skip, deep


class GuidedBlock(nn.Module):
    """DGB: the sum of four branches, each multiplied by its mask where masks are given (eq. 6)."""

    def __init__(self, inputs: int, features: int, deep: int, reduction: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            Branch(inputs, features, deep, attentive, reduction) for attentive in range(BRANCHES)
        )

    def forward(self, x: Tensor, means: Means, masks: Sequence[Tensor] | None = None) -> Tensor:
        """[N, inputs, H, W], four masks [N, 1, H, W] -> [N, features, H, W]; H and W even."""
        outputs: list[Tensor] = [branch(x, means) for branch in self.branches]
        if masks is not None:
            outputs = [mask * out for mask, out in zip(masks, outputs, strict=True)]
        first, second, third, fourth = outputs
        return first + second + third + fourth

    def look(self, x: Tensor, means: Means) -> None:
        """Compute the means of `x` and nothing that comes after the last of them."""
        for branch in self.branches[1:]:  # the first one has no RCAB
            assert isinstance(branch, Branch)
            branch.descend(x, means)


def start(layer: nn.Module, gain: float = 1.0) -> None:
    """Initialise a convolution's weights for the ReLU (He et al. 2015), times `gain`."""
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.mul_(gain)
