"""DefocusGAN's discriminator: Zhai et al. 2023. It takes part in training only.

After PatchGAN (Isola et al. 2017), "a 3-layer fully convolutional network" gives a matrix of
scores, one for each patch. It is trained as WGAN-GP's critic (Gulrajani et al. 2017): a score is
any real number (no sigmoid), and no batch normalisation ties a picture's gradient to the others'.
The paper leaves out widths and strides: here each convolution halves the size. So a score stands
for a square of 8x8 pixels, in the middle of the 22x22 that it sees, and the defocus map averaged
over the same squares tells how much it weighs in the adversarial loss (eq. 7).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Config:
    """Features after the first convolution and after the second."""

    features: tuple[int, int] = (64, 128)

    def __post_init__(self) -> None:
        if len(self.features) != 2 or min(self.features) < 1:
            raise ValueError(f"features: expected 2, each at least 1, got {self.features}")


class PatchDiscriminator(nn.Module):
    """Pictures [N, 3, H, W] in [0, 1] -> scores [N, 1, H/8, W/8]; the higher, the more real.

    H and W are multiples of `stride`.
    """

    stride = 8  # pixels: the side of the square that a score stands for

    def __init__(self, config: Config) -> None:
        super().__init__()
        first, second = config.features
        self.layers = nn.Sequential(
            _halve(3, first),
            nn.LeakyReLU(0.2),
            _halve(first, second),
            nn.LeakyReLU(0.2),
            _halve(second, 1),
        )

    def forward(self, picture: Tensor) -> Tensor:
        """See the class."""
        if any(side % self.stride for side in picture.shape[2:]):
            height, width = picture.shape[2:]
            raise ValueError(f"expected sides that are multiples of 8, got {width}x{height}")
        scores: Tensor = self.layers(picture)
        return scores


def _halve(inputs: int, outputs: int) -> nn.Conv2d:
    """4x4 around the middle of every 2x2 pixels."""
    return nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
