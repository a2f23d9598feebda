"""DefocusGAN's three scales (Zhai et al. 2023, figure 2): pictures in, planes out.

A defocus-guided block sees the picture at its full size, the next one the first one's features at
1/4, the last one those at 1/8. The paper goes no further than "downsample" and "repeat": here each
square of features becomes one position by a convolution of the square's size, and on the way back
one position becomes a square (pixel-shuffle), which is added to the features of the larger scale.
Two convolutions follow. `fold` makes the full size one of folded squares of pixels; planes of that
size can be given beside the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allfocus.train.models.didanet import conv
from allfocus.train.models.guided_blocks import BRANCHES, GuidedBlock, Means, start

SCALES = (1, 4, 8)  # of the three blocks: how many times smaller than the folded picture
_RATIOS = tuple(after // before for before, after in pairwise(SCALES))

Masks = Sequence[Sequence[Tensor]]  # of each scale: four masks [N, 1, H/scale, W/scale]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Widths of the three blocks, largest scale first: at their own size, and at their bottom."""

    features: tuple[int, int, int] = (32, 40, 40)
    deep: tuple[int, int, int] = (104, 80, 56)
    reduction: int = 8  # an RCAB's gate goes through so many times fewer channels
    fold: int = 1  # side in pixels of the squares folded into channels first

    def __post_init__(self) -> None:
        for name in ("features", "deep"):
            widths = getattr(self, name)
            if len(widths) != len(SCALES) or min(widths) < 1:
                raise ValueError(f"{name}: expected 3 widths, each at least 1, got {widths}")
        if self.reduction < 1:
            raise ValueError(f"reduction: expected at least 1, got {self.reduction}")
        if self.fold not in (1, 2):
            raise ValueError(f"fold: expected 1 or 2, got {self.fold}")

    @property
    def multiple(self) -> int:
        """Pixels that height and width are multiples of: one position at the deepest bottom."""
        return 2 * SCALES[-1] * self.fold

    @property
    def context(self) -> int:
        """Channels of all means over the whole picture: branches have 0, 1, 2 and 3 RCABs."""
        return sum(range(BRANCHES)) * sum(self.deep)


class GuidedScales(nn.Module):
    """[N, inputs, H, W] -> [N, outputs, H, W], zeros while new; see the module's text."""

    def __init__(self, config: Config, inputs: int, outputs: int, beside: int = 0) -> None:
        super().__init__()
        self.fold = config.fold
        folded, features = config.fold**2, config.features
        self.blocks = nn.ModuleList(
            GuidedBlock(before, width, deep, config.reduction)
            for before, width, deep in zip(
                (folded * inputs + beside, *features[1:]), features, config.deep, strict=True
            )
        )
        self.down = nn.ModuleList(
            nn.Conv2d(large, small, ratio, stride=ratio)
            for (large, small), ratio in zip(pairwise(features), _RATIOS, strict=True)
        )
        self.up = nn.ModuleList(
            nn.Conv2d(small, large * ratio**2, 1)
            for (large, small), ratio in zip(pairwise(features), _RATIOS, strict=True)
        )
        self.body = conv(features[0], features[0])
        self.tail = conv(features[0], folded * outputs)
        for layer in self.down:
            start(layer)
        for layer in (*self.up, self.body):
            start(layer, 0.5)  # so that the sum of three scales is no larger than one
        start(self.tail, 0.0)

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        masks: Masks | None = None,
        beside: Tensor | None = None,
    ) -> Tensor:
        """[N, inputs, H, W] -> [N, outputs, H, W].

        `context` [N, context, 1, 1] are the picture's means; None: `x` is the whole picture.
        `beside` [N, beside, H/fold, W/fold] are planes of the folded size, where there are such.
        """
        means = Means(context)
        levels = self._descend(x, means, masks, beside)
        small = self.blocks[-1](levels.pop(), means, None if masks is None else masks[-1])
        for up, ratio in zip(reversed(self.up), reversed(_RATIOS), strict=True):
            small = levels.pop() + F.pixel_shuffle(up(small), ratio)
        out: Tensor = self.tail(F.relu(self.body(small)))
        return F.pixel_shuffle(out, self.fold) if self.fold > 1 else out

    def means(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """The means [N, context, 1, 1] of a whole picture [N, inputs, H, W]; see forward."""
        means = Means()
        last = self.blocks[-1]
        assert isinstance(last, GuidedBlock)
        last.look(self._descend(x, means, None, beside)[-1], means)
        return means.joined()

    def _descend(
        self, x: Tensor, means: Means, masks: Masks | None, beside: Tensor | None
    ) -> list[Tensor]:
        """The features of the first two blocks, and what goes into the third."""
        x = F.pixel_unshuffle(x, self.fold) if self.fold > 1 else x
        x = x if beside is None else torch.cat((x, beside), dim=1)
        levels: list[Tensor] = []
        for index, down in enumerate(self.down):
            levels.append(self.blocks[index](x, means, None if masks is None else masks[index]))
            x = F.relu(down(levels[-1]))
        return [*levels, x]


def halo(config: Config) -> int:
    """Pixels from an output pixel to the farthest that it sees, the means being given."""
    ranges = ((pixel, *_seen(pixel, config.fold)) for pixel in range(config.multiple))
    return max(max(pixel - first, last - pixel) for pixel, first, last in ranges)


def _seen(pixel: int, fold: int) -> tuple[int, int]:
    """The first and the last row that row `pixel` of the output sees, from the output back.

    The way through the smallest scale sees the most.
    """
    first = last = pixel // fold
    first, last = first - 2, last + 2  # the last two convolutions
    first, last = first // SCALES[-1], last // SCALES[-1]
    for ratio in (*reversed(_RATIOS), fold):
        first, last = _seen_by_block(first, last)
        first, last = ratio * first, ratio * last + ratio - 1
    return first, last


def _seen_by_block(first: int, last: int) -> tuple[int, int]:
    """Rows of a block's input that rows `first` to `last` of its output see: by its last branch."""
    first, last = (first - 2) // 2, (last + 2) // 2  # two convolutions, the doubling
    first, last = first - 6, last + 6  # three RCABs of two convolutions
    return 2 * first - 1 - 2, 2 * last + 1 + 2  # halving, two convolutions
