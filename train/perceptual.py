"""The perceptual loss (Johnson et al. 2016) on VGG19's conv3_3, as DefocusGAN has it.

The weights are torchvision's file `vgg19-*.pth` (ImageNet's terms apply); nothing is fetched.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from allfocus.runtime.errors import CheckpointError
from allfocus.train import losses
from allfocus.train.models.apl_detect import Normalise

_CONVS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128)}  # torchvision's places
_CONVS |= {10: (128, 256), 12: (256, 256), 14: (256, 256)}
_POOLS = (4, 9)


class Perceptual(nn.Module):
    """Two pictures [N, 3, H, W] in [0, 1] -> the mean square of their features' difference.

    Raises CheckpointError where the file is not VGG19's.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.features = nn.Sequential(*(_layer(place) for place in range(max(_CONVS) + 1)))
        self.load_state_dict(_read(weights, self.state_dict()))
        self.requires_grad_(False)

    def forward(self, given: Tensor, wanted: Tensor) -> Tensor:
        """See the class."""
        with torch.no_grad():
            aim = self.features(self.normalise(wanted))
        return losses.squares(self.features(self.normalise(given)), aim)


def _layer(place: int) -> nn.Module:
    if place in _CONVS:
        return nn.Conv2d(*_CONVS[place], 3, padding=1)
    return nn.MaxPool2d(2) if place in _POOLS else nn.ReLU()


def _read(path: Path, wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected torchvision's vgg19-*.pth")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = {key: state[key] for key in wanted}
    except Exception as error:  # a damaged pickle can raise any, with unsafe advice of PyTorch's
        raise CheckpointError(
            f"{path}: not torchvision's VGG19 ({type(error).__name__}); expected its vgg19-*.pth"
        ) from None
    if any(found[key].shape != tensor.shape for key, tensor in wanted.items()):
        raise CheckpointError(f"{path}: not torchvision's VGG19: its layers have other widths")
    return found
