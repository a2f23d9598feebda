"""LPIPS, where its package and its weights are on this machine; nothing is downloaded for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]  # [H, W, 3], RGB in [0, 1]
Distance = Callable[[Picture, Picture], float]
_ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's, which lpips takes its features from


def open_lpips() -> tuple[Distance | None, str]:
    """(the distance, "") or (None, why it cannot be had).

    LPIPS (Zhang et al., CVPR 2018), version 0.1 on AlexNet, as the package `lpips` computes it on
    the CPU: the mean over the picture of the weighted distances between normalised features.
    """
    try:
        torch, package = import_module("torch"), import_module("lpips")
    except ImportError as error:
        return None, f"no LPIPS: {error}; it needs the packages torch and lpips"
    weights = Path(torch.hub.get_dir()) / "checkpoints" / _ALEXNET
    if not weights.is_file():
        return None, f"no LPIPS: AlexNet's weights are not at {weights}, and none are downloaded"
    net = package.LPIPS(net="alex", verbose=False).eval()

    def distance(image: Picture, truth: Picture) -> float:
        planes = [torch.from_numpy(_planes(picture)) for picture in (image, truth)]
        with torch.inference_mode():
            return float(net(*planes))

    return distance, ""


def _planes(picture: Picture) -> Picture:
    """[H, W, 3] in [0, 1] -> [1, 3, H, W] in [-1, 1], which lpips takes."""
    turned = picture.transpose(2, 0, 1)[None] * np.float32(2) - np.float32(1)
    return np.ascontiguousarray(turned, np.float32)
